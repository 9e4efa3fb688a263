/**
 * One line for a message: as src/vhost/wire describes it, with each address's space written before it and the kinds of
 * passed files behind their number. Must not know times, numbers or colours.
 */
import {
  type DescribeOptions,
  describeMessage,
  FLAG,
  type Message,
  type PayloadOf,
} from "../vhost/wire/index.js";
import { hex } from "../virtio/index.js";
import type { AddressClass } from "./address-class.js";
import { describeCall } from "./call-line.js";
import { type SessionMessage, wireChannel } from "./message.js";
import type { SessionModel } from "./model/session-model.js";

/** The short names of address spaces: guest-physical, the front-end's own (user), I/O virtual. */
export type SpaceName = "gpa" | "uva" | "iova" | "gpa/uva";
/** `?` where what tells was not shown. */
export type ShownSpace = SpaceName | "?";

const SHORT: Readonly<Record<AddressClass, SpaceName>> = {
  user: "uva",
  "guest-physical": "gpa",
  "user-or-guest-physical": "gpa/uva",
  iova: "iova",
};

/**
 * The space of a ring address: what was negotiated says it, and where that says nothing, the memory table does. With
 * bit 33 acknowledged an address in a user range may be either: a front-end that never translates sends those.
 */
export function ringSpace(address: bigint, model: SessionModel): SpaceName {
  const found = model.classOf(address);
  if (model.ringSpace === "iova") return found === "user" && model.iotlb.messages === 0 ? "uva" : "iova";
  if (model.ringSpace === "guest-physical") return found === "user" ? "uva" : "gpa";
  return SHORT[found];
}

/** The same for a person. */
export function shownSpace(address: bigint, model: SessionModel): ShownSpace {
  if (!model.hasUnseenFeatures) return ringSpace(address, model);
  const found = model.classOf(address);
  return found === "iova" && !model.memoryGiven ? "?" : SHORT[found];
}

export function lineOf(message: SessionMessage, model: SessionModel, options: DescribeOptions = {}): string {
  const { name, record, payload, problem, isReply, needReply, byteLength, systemCall } = message;
  if (systemCall !== undefined) {
    const details = payload?.kind === "vringAddr" ? ringAddressWords(payload, model) : undefined;
    return describeCall(message, systemCall, options, details);
  }
  const words: string[] = [];
  if (record === undefined || payload === undefined) {
    words.push(name);
    if (isReply) words.push("REPLY");
    if (needReply) words.push("NEED_REPLY");
    words.push(`${byteLength} bytes`);
    if (problem !== undefined && record !== undefined) words.push(`(${problem.text})`);
  } else if (payload.kind === "vringAddr") {
    words.push(name);
    if (needReply) words.push("NEED_REPLY");
    words.push(ringAddressWords(payload, model));
  } else {
    words.push(describeMessage(asWireMessage(message), options));
  }
  const files = fileWords(message);
  if (files !== "") words.push(files);
  return words.join(" ");
}

function ringAddressWords(payload: PayloadOf<"vringAddr">, model: SessionModel): string {
  const address = (value: bigint): string => `${shownSpace(value, model)}:${hex(value)}`;
  const { index, desc, used, avail, log, flags } = payload;
  const logged = (flags & 1) !== 0 ? ` log=${hex(log)} LOG` : "";
  return `q${index} desc=${address(desc)} avail=${address(avail)} used=${address(used)}${logged}`;
}

/** For the describer, which prints no descriptors of it: their kinds are only known here. */
function asWireMessage(message: SessionMessage): Message {
  const { channel, record, isReply, needReply, payload, request } = message;
  if (record === undefined || payload === undefined)
    throw new TypeError("only a decoded message has a wire form");
  const flags = FLAG.version | (isReply ? FLAG.reply : 0) | (needReply ? FLAG.needReply : 0);
  const header = { request, flags, size: 0 };
  return { channel: wireChannel(channel), record, header, reply: isReply, needReply, payload, fds: [] };
}

function fileWords({ descriptorCount, descriptorKinds }: SessionMessage): string {
  if (descriptorCount === 0) return "";
  const kinds = descriptorKinds === undefined ? "" : ` (${[...new Set(descriptorKinds)].join(", ")})`;
  return `fds=${descriptorCount}${kinds}`;
}
