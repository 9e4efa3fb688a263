/**
 * The names of wireshark/vhost-user.lua: messages, feature bits and structures, from the tables of src/vhost/wire and
 * src/virtio. What the dissector does with them is written by hand around them.
 */
import {
  LINK_CHANNELS,
  LINK_DESCRIPTOR_KINDS,
  LINK_DIRECTIONS,
  LINK_ENDERS,
  LINK_KIND,
} from "../src/inspect/capture/link-header.js";
import {
  type Channel,
  IOTLB_TYPE,
  LAYOUTS,
  messagesOf,
  type NamedMessage,
  type PayloadKind,
} from "../src/vhost/wire/index.js";
import { type Layout, protocolFeatures, STATUS, virtioFeatures } from "../src/virtio/index.js";

const BEGIN = "-- names: begin\n";
const END = "-- names: end\n";

/** The file with its names made anew. */
export function dissector(written: string): string {
  const begin = written.indexOf(BEGIN);
  const end = written.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`the dissector lacks "${BEGIN.trim()}" or "${END.trim()}"`);
  return `${written.slice(0, begin)}${BEGIN}${names()}${written.slice(end)}`;
}

/** Payload kinds that are one structure, and parts that others have. The rest is taken apart by hand. */
const STRUCTURES: readonly (readonly [PayloadKind | "region" | "configHead", Layout])[] = [
  ["vringState", LAYOUTS.VRING_STATE],
  ["vringAddr", LAYOUTS.VRING_ADDR],
  ["region", LAYOUTS.MEM_REGION],
  ["log", LAYOUTS.LOG],
  ["iotlb", LAYOUTS.IOTLB],
  ["configHead", LAYOUTS.CONFIG_HEAD],
  ["vringArea", LAYOUTS.VRING_AREA],
  ["inflight", LAYOUTS.INFLIGHT],
  ["sharedObject", LAYOUTS.SHARED_OBJECT],
  ["deviceState", LAYOUTS.DEVICE_STATE],
  ["shmemMap", LAYOUTS.SHMEM_MAP],
];

function names(): string {
  const vsock = virtioFeatures("vsock");
  const plain = virtioFeatures();
  const ofVsock = vsock.filter(({ bit }) => !plain.some((each) => each.bit === bit));
  return [
    list(
      "KINDS",
      Object.entries(LINK_KIND).map(([name, value]) => [value, name]),
    ),
    list("CHANNELS", [...LINK_CHANNELS.entries()]),
    list("DIRECTIONS", [...LINK_DIRECTIONS.entries()]),
    list("ENDERS", [...LINK_ENDERS.entries()]),
    list("DESCRIPTOR_KINDS", [...LINK_DESCRIPTOR_KINDS.entries()]),
    list(
      "FEATURES",
      plain.map(({ bit, name }) => [bit, name]),
    ),
    list(
      "VSOCK_FEATURES",
      ofVsock.map(({ bit, name }) => [bit, name]),
    ),
    list(
      "PROTOCOL_FEATURES",
      protocolFeatures().map(({ bit, name }) => [bit, name]),
    ),
    list(
      "STATUS",
      Object.entries(STATUS).map(([name, value]) => [Math.log2(value), name]),
    ),
    `local MESSAGES = {\n${messages(0, "frontend")}${messages(1, "backend")}}\n`,
    `local LAYOUTS = {\n${STRUCTURES.map(([kind, layout]) => structure(kind, layout)).join("")}}\n`,
  ].join("");
}

function list(name: string, entries: readonly (readonly [number, string])[]): string {
  return `local ${name} = {\n${entries.map(([key, value]) => `  [${key}] = ${quoted(value)},\n`).join("")}}\n`;
}

function messages(channel: number, sender: Channel): string {
  const rows = messagesOf(sender).map((record) => {
    const fields = [
      `name = ${quoted(sender === "backend" ? `BACKEND_${record.name}` : record.name)}`,
      `request = ${kinds(requestKinds(record))}`,
      `reply = ${kinds(replyKinds(record))}`,
      `ask = ${quoted(record.u64?.request ?? "number")}`,
      `answer = ${quoted(record.u64?.reply ?? "result")}`,
    ];
    return `    [${record.id}] = { ${fields.join(", ")} },\n`;
  });
  return `  [${channel}] = {\n${rows.join("")}  },\n`;
}

function requestKinds({ request, requestAlternative }: NamedMessage): PayloadKind[] {
  return requestAlternative === undefined ? [request] : [request, requestAlternative];
}

/** As decodeMessage() takes them: the message's own answer, which may be empty, or the u64 of REPLY_ACK. */
function replyKinds({ reply, replies, postcopyReply }: NamedMessage): PayloadKind[] {
  if (replies !== "never") return [reply, "none"];
  return postcopyReply === undefined ? ["u64"] : ["u64", postcopyReply];
}

function kinds(each: readonly PayloadKind[]): string {
  return `{ ${each.map(quoted).join(", ")} }`;
}

/** Names for the values of two fields of an IOTLB message. */
const IOTLB_VALUES: Readonly<Record<string, string>> = {
  type: values(Object.entries(IOTLB_TYPE).map(([name, value]) => [value, name])),
  perm: values(["none", "r", "w", "rw"].entries()),
};

function values(entries: Iterable<readonly [number, string]>): string {
  return `, values = { ${[...entries].map(([value, name]) => `[${value}] = ${quoted(name)}`).join(", ")} }`;
}

function structure(kind: string, { cName, byteLength, fields }: Layout): string {
  const rows = fields
    .filter(({ name }) => !name.startsWith("_"))
    .map(({ name, offset, width }) => {
      const values = kind === "iotlb" ? (IOTLB_VALUES[name] ?? "") : "";
      return (
        `      { name = ${quoted(snake(name))}, label = ${quoted(words(name))}, ` +
        `offset = ${offset}, width = ${width}${values} },\n`
      );
    });
  const head = `  ${kind} = { -- ${cName}\n    name = ${quoted(snake(kind))},\n    bytes = ${byteLength},\n`;
  return `${head}    fields = {\n${rows.join("")}    },\n  },\n`;
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** `mmapOffset` as a label: "Mmap offset". */
function words(name: string): string {
  const text = snake(name).replaceAll("_", " ");
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}

function quoted(text: string): string {
  return JSON.stringify(text);
}
