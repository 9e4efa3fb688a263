/**
 * A message understood as far as it goes: what an inspection's model, lints and lines work on. Made from a frame, of
 * any device type: what the tables of src/vhost/wire do not know keeps its number and is passed through. A source that
 * has no bytes (system calls) makes these itself. Must not know sessions: what answers what is in session.ts.
 */
import {
  type Channel,
  decodeHeader,
  decodeMessage,
  type Frame,
  HEADER_BYTES,
  isReply,
  MAX_TABLE_REGIONS,
  messageById,
  type NamedMessage,
  needsReply,
  type Payload,
  type WireErrorCode,
} from "../vhost/wire/index.js";
import type { DescriptorKind, FrameChannel, FrameDirection, SessionFrame } from "./frame.js";

/** Why the payload of a message was not decoded. */
export interface MessageProblem {
  readonly code: WireErrorCode;
  readonly text: string;
}

/** What a message is made of if it was a system call on a vhost device of the kernel's: a request, or what it returned. */
export interface SystemCall {
  /** The same in the request and its result; calls of several threads may overlap. */
  readonly call: number;
  /** `VHOST_SET_FEATURES`, `write`. */
  readonly name: string;
  /** How little was shown of what it carries: `only the pointer 0x7ffd…`, `only 32 of 72 bytes`. */
  readonly unseen: string | undefined;
  /** Of a result. */
  readonly result?: { readonly text: string; readonly errno: string | undefined };
}

export interface SessionMessage {
  readonly timeNs: bigint;
  readonly channel: FrameChannel;
  readonly direction: FrameDirection;
  readonly isReply: boolean;
  /** Whether an answer is asked for; it counts only if REPLY_ACK was negotiated. */
  readonly needReply: boolean;
  /** The number of the request, in a reply that of the request that it answers. */
  readonly request: number;
  /** `GET_FEATURES`, `BACKEND_IOTLB_MSG`, `request 77`; a system call of the kernel's vhost by its own name. */
  readonly name: string;
  /** What the protocol says of it; undefined for a number that nobody assigned. */
  readonly record: NamedMessage | undefined;
  /** Undefined if it could not be decoded; then `problem` says why. */
  readonly payload: Payload | undefined;
  readonly problem: MessageProblem | undefined;
  /** The header's flags, 32 bits; 1 (the version) where there is no header. */
  readonly flags: number;
  readonly descriptorCount: number;
  readonly descriptorKinds: readonly DescriptorKind[] | undefined;
  /** With its header. */
  readonly byteLength: number;
  /** Instead of bytes. */
  readonly systemCall?: SystemCall;
}

/** Which table a channel's request numbers are in. */
export function wireChannel(channel: FrameChannel): Channel {
  return channel === "main" ? "frontend" : "backend";
}

/** The name of a request as it stands in every line. */
export function messageName(channel: FrameChannel, request: number): string {
  const record = messageById(wireChannel(channel), request);
  const prefix = channel === "backend" ? "BACKEND_" : "";
  return record === undefined
    ? `${channel === "backend" ? "back-end " : ""}request ${request}`
    : `${prefix}${record.name}`;
}

/** Decodes a frame. Never throws: `bytes` shorter than a header is an unknown message with a problem. */
export function messageOf(frame: SessionFrame): SessionMessage {
  const { timeNs, channel, direction, bytes, descriptorCount, descriptorKinds } = frame;
  const seen = { timeNs, channel, direction, descriptorCount, descriptorKinds, byteLength: bytes.byteLength };
  if (bytes.byteLength < HEADER_BYTES) {
    const problem: MessageProblem = { code: "truncated", text: `${bytes.byteLength} bytes are no header` };
    return {
      ...seen,
      isReply: false,
      needReply: false,
      request: 0,
      name: "?",
      record: undefined,
      payload: undefined,
      problem,
      flags: 0,
    };
  }
  const header = decodeHeader(bytes);
  // The decoder counts descriptors and looks at no number.
  const fds: number[] = new Array(descriptorCount).fill(-1);
  const wire: Frame = { header, payload: bytes.subarray(HEADER_BYTES), fds };
  const decoded = decodeMessage(wireChannel(channel), wire);
  const payload = decoded.ok
    ? decoded.value.payload
    : payloadApart(wireChannel(channel), wire, decoded.error.code);
  return {
    ...seen,
    isReply: isReply(header),
    needReply: needsReply(header),
    request: header.request,
    name: messageName(channel, header.request),
    record: messageById(wireChannel(channel), header.request),
    payload,
    problem: decoded.ok ? undefined : { code: decoded.error.code, text: decoded.error.message },
    flags: header.flags,
  };
}

/** A message whose only fault is the number of its descriptors still says what it says. */
function payloadApart(channel: Channel, frame: Frame, code: WireErrorCode): Payload | undefined {
  if (code !== "fd-count") return undefined;
  for (let count = 0; count <= MAX_TABLE_REGIONS; count++) {
    const decoded = decodeMessage(channel, { ...frame, fds: new Array(count).fill(-1) });
    if (decoded.ok) return decoded.value.payload;
  }
  return undefined;
}
