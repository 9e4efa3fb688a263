/**
 * System calls on a vhost device as messages of a session: a request and its result each, under the names that vhost-user
 * has for the same, so that one model and one set of lints serve both. Must not know descriptors or sessions.
 */
import {
  IOC_DIRECTION,
  IOTLB_MSG,
  type IocDirection,
  isKernelIoctl,
  KERNEL_IOCTLS,
  type KernelArgument,
  kernelIoctlByNumber,
  VHOST_IOC_TYPE,
} from "../../vhost/kernel/ioctls.js";
import { messagesOf, type NamedMessage, type Payload } from "../../vhost/wire/index.js";
import { IOTLB } from "../../vhost/wire/layouts.js";
import { decodeStruct, hex, viewOf } from "../../virtio/index.js";
import type { SessionMessage, SystemCall } from "../message.js";
import { bytesIn, type TracedCall } from "./call.js";
import type { CallEvent } from "./reader.js";
import { argumentIn, payloadFromBytes, payloadFromText } from "./values.js";

/** A request as a trace names it. */
export interface NamedRequest {
  /** `VHOST_SET_FEATURES`, `_IOC(_IOC_WRITE, 0xaf, 0x99, 0x8)`. */
  readonly name: string;
  readonly number: number;
  readonly argument: KernelArgument;
}

/** What a call says, and how far it could be seen. */
export interface CallMessages {
  readonly messages: readonly SessionMessage[];
  /** The name of the request, if its argument was only a pointer. */
  readonly barePointer: string | undefined;
  /** An IOTLB message that was shown in part only: bytes shown and bytes passed. */
  readonly cut: { readonly shown: number; readonly passed: bigint } | undefined;
}

const NAMED = /\bVHOST_[A-Z_]+\b/g;
const ENCODED =
  /^_IOC\(([A-Z_|0]+|0x[0-9a-f]+), (?:0x([0-9a-f]+)|'(.)'), (0x[0-9a-f]+|\d+), (0x[0-9a-f]+|\d+)\)/;

/** The request of an ioctl() on whatever; undefined if it is not one of vhost's. */
export function requestIn(text: string): NamedRequest | undefined {
  // One number may have several names: `A or B`; and with -X verbose the name is a comment.
  const name = text.match(NAMED)?.find(isKernelIoctl);
  if (name !== undefined) return { name, ...KERNEL_IOCTLS[name] };
  const [, flags, type, , number] = ENCODED.exec(text) ?? [];
  if (flags !== undefined && type !== undefined && Number.parseInt(type, 16) === VHOST_IOC_TYPE)
    return byNumber(directionOf(flags), Number(number), text);
  if (!/^(0x[0-9a-f]+|\d+)$/.test(text)) return undefined;
  const whole = Number(text);
  if (((whole >>> 8) & 0xff) !== VHOST_IOC_TYPE) return undefined;
  const found = (Object.entries(IOC_DIRECTION) as [IocDirection, number][]).find(
    ([, bits]) => bits === Math.floor(whole / 2 ** 30) % 4,
  );
  return byNumber(found?.[0] ?? "none", whole & 0xff, text);
}

function directionOf(flags: string): IocDirection {
  const isRead = flags.includes("_IOC_READ");
  if (flags.includes("_IOC_WRITE")) return isRead ? "both" : "write";
  return isRead ? "read" : "none";
}

function byNumber(direction: IocDirection, number: number, text: string): NamedRequest {
  const name = kernelIoctlByNumber(direction, number);
  return name === undefined ? { name: text, number, argument: "other" } : { name, ...KERNEL_IOCTLS[name] };
}

/** Those whose name, without VHOST_, means the same in vhost-user. */
const SAME_IN_VHOST_USER: ReadonlyMap<string, NamedMessage> = new Map(
  messagesOf("frontend")
    .filter(({ name }) => isKernelIoctl(`VHOST_${name}`))
    .map((record) => [`VHOST_${record.name}`, record]),
);

const NO_BYTES = {
  needReply: false,
  problem: undefined,
  flags: 1,
  descriptorCount: 0,
  descriptorKinds: undefined,
  byteLength: 0,
} as const;

/** @param call a number of its own, which its result has too */
export function messagesOfIoctl(event: CallEvent, request: NamedRequest, call: number): CallMessages {
  const { name, number, argument } = request;
  const { args } = event.call;
  const record = SAME_IN_VHOST_USER.get(name);
  const shown = argumentIn(args[2] ?? "");
  const value = payloadOf(event, argument, shown.text);
  const isAnswer = ANSWERING.has(name);
  const hasArgument = argument !== "none" && argument !== "other";
  const asked = hasArgument ? askedWith(name, value) : NOTHING;
  const pointer = shown.pointer === undefined ? (args[2] ?? "nothing") : `the pointer ${hex(shown.pointer)}`;
  const common = {
    ...NO_BYTES,
    channel: "main",
    request: number,
    name: nameOf(name, record),
    record,
  } as const;
  const isBare = hasArgument && value === undefined;
  const systemCall: SystemCall = { call, name, unseen: isBare ? `only ${pointer}` : undefined };
  const messages: SessionMessage[] = [
    {
      ...common,
      timeNs: event.startNs,
      direction: "to-backend",
      isReply: false,
      payload: asked,
      systemCall: asked === undefined ? systemCall : { ...systemCall, unseen: undefined },
    },
  ];
  const reply = resultMessage(event, common, systemCall, isAnswer && hasArgument ? value : NOTHING);
  if (reply !== undefined) messages.push(reply);
  return { messages, barePointer: isBare ? name : undefined, cut: undefined };
}

const NOTHING: Payload = { kind: "none" };

/** Requests whose argument the kernel fills in. */
const ANSWERING: ReadonlySet<string> = new Set(
  Object.entries(KERNEL_IOCTLS)
    .filter(([name, { direction }]) => direction === "both" || direction === "read" || name.includes("_GET_"))
    .map(([name]) => name),
);

/** What the VMM put in: of what only the kernel fills in nothing, of GET_VRING_BASE the ring. */
function askedWith(name: string, value: Payload | undefined): Payload | undefined {
  if (!ANSWERING.has(name)) return value;
  if (isKernelIoctl(name) && KERNEL_IOCTLS[name].direction === "read") return NOTHING;
  return value?.kind === "vringState" ? { ...value, num: 0 } : value;
}

function nameOf(name: string, record: NamedMessage | undefined): string {
  if (name === "VHOST_VDPA_SET_VRING_ENABLE") return "SET_VRING_ENABLE";
  return record?.name ?? name;
}

function payloadOf(
  { added }: CallEvent,
  argument: KernelArgument,
  shown: string | undefined,
): Payload | undefined {
  for (const text of [shown, added.text]) {
    const payload = text === undefined ? undefined : payloadFromText(argument, text);
    if (payload !== undefined) return payload;
  }
  return added.bytes === undefined ? undefined : payloadFromBytes(argument, added.bytes);
}

/** What the kernel returned; undefined if it never did. */
function resultMessage(
  { endNs, call }: CallEvent,
  common: Pick<SessionMessage, "channel" | "request" | "name" | "record"> & typeof NO_BYTES,
  systemCall: SystemCall,
  value: Payload | undefined,
): SessionMessage | undefined {
  const { result } = call;
  if (result.value === undefined) return undefined;
  return {
    ...common,
    timeNs: endNs,
    direction: "to-frontend",
    isReply: true,
    payload: result.errno === undefined ? value : NOTHING,
    systemCall: {
      ...systemCall,
      unseen: result.errno === undefined && value === undefined ? systemCall.unseen : undefined,
      result: { text: result.text, errno: result.errno },
    },
  };
}

const IOTLB_RECORDS = {
  main: messagesOf("frontend").find(({ name }) => name === "IOTLB_MSG"),
  backend: messagesOf("backend").find(({ name }) => name === "IOTLB_MSG"),
} as const;

/** A read() or write() of a vhost device, or of something that may be one; undefined if no IOTLB message went through. */
export function messagesOfTransfer(event: CallEvent, call: number): CallMessages | undefined {
  const { name, args, result } = event.call;
  const buffer = bytesIn(args[1] ?? "");
  const asked = BigInt(/^\d+$/.test(args[2] ?? "") ? (args[2] ?? 0) : 0);
  const isRead = name === "read";
  if (buffer === undefined || (isRead && (result.value ?? 0n) <= 0n)) return undefined;
  const { bytes } = buffer;
  const passed = isRead ? (result.value ?? 0n) : asked;
  if (passed !== BigInt(IOTLB_MSG.bytes) || !beginsAsIotlb(bytes)) return undefined;
  const channel = isRead ? "backend" : "main";
  const record = IOTLB_RECORDS[channel];
  const isWhole = bytes.byteLength >= IOTLB_MSG.messageOffset + IOTLB.byteLength;
  const payload: Payload | undefined = isWhole
    ? { kind: "iotlb", ...decodeStruct(IOTLB, viewOf(bytes), IOTLB_MSG.messageOffset, true) }
    : undefined;
  const common = {
    ...NO_BYTES,
    channel,
    request: record?.id ?? 0,
    name: isRead ? "BACKEND_IOTLB_MSG" : "IOTLB_MSG",
    record,
  } as const;
  const systemCall: SystemCall = {
    call,
    name,
    unseen: isWhole ? undefined : `only ${bytes.byteLength} of ${passed} bytes${rangeIn(bytes)}`,
  };
  const messages: SessionMessage[] = [
    {
      ...common,
      timeNs: isRead ? event.endNs : event.startNs,
      direction: isRead ? "to-frontend" : "to-backend",
      isReply: false,
      payload,
      systemCall,
    },
  ];
  const reply = isRead ? undefined : resultMessage(event, common, systemCall, NOTHING);
  if (reply !== undefined) messages.push(reply);
  return { messages, barePointer: undefined, cut: isWhole ? undefined : { shown: bytes.byteLength, passed } };
}

/** The range is at the beginning, and strace's usual 32 bytes have it. */
function rangeIn(bytes: Uint8Array): string {
  if (bytes.byteLength < IOTLB_MSG.messageOffset + 16) return "";
  const view = viewOf(bytes);
  const field = (offset: number): string => hex(view.getBigUint64(IOTLB_MSG.messageOffset + offset, true));
  return `: iova=${field(0)} size=${field(8)}`;
}

function beginsAsIotlb(bytes: Uint8Array): boolean {
  return bytes.byteLength >= 4 && IOTLB_MSG.types.includes(viewOf(bytes).getUint32(0, true));
}

/** Whether a call can have been a message of the IOTLB. */
export function isTransfer({ name }: TracedCall): boolean {
  return name === "read" || name === "write";
}
