/**
 * From a frame to a message and back: the payload decoded by its record, the descriptors counted.
 *
 * It knows the tables of messages.ts and no session: whether a message is legal now is asked with isLegal,
 * what has to be answered with replyDue. Descriptors are only counted here; whoever received them closes them.
 */
import { type Outcome, WireError } from "./error.js";
import type { Frame } from "./frame-decoder.js";
import { encodeHeader, FLAG, type Header, isReply, needsReply } from "./header.js";
import { HEADER_BYTES } from "./limits.js";
import type { Channel, FdRange } from "./message-record.js";
import { type MessageName, messageById, messageByName, type NamedMessage } from "./messages.js";
import {
  decodePayload,
  encodePayload,
  isFault,
  type Payload,
  type PayloadFault,
  type PayloadKind,
} from "./payload.js";

/** A message understood: which one, in which direction, with what. */
export interface Message {
  readonly channel: Channel;
  readonly record: NamedMessage;
  readonly header: Header;
  /** Whether it answers a request; then it travels against the channel's direction. */
  readonly reply: boolean;
  /** Whether the sender asks for an answer; it counts only if REPLY_ACK was negotiated. */
  readonly needReply: boolean;
  readonly payload: Payload;
  /** Descriptors that came with it, as received; their owner is the receiver. */
  readonly fds: readonly number[];
}

/** Decodes a frame that arrived on a channel. Never throws. Keeps no reference to the frame's bytes. */
export function decodeMessage(channel: Channel, frame: Frame): Outcome<Message> {
  const { header, fds } = frame;
  const record = messageById(channel, header.request);
  if (record === undefined) {
    const text = `${channel} request ${header.request} is unknown`;
    return { ok: false, error: new WireError("unknown-request", text, header.request, 0) };
  }
  const reply = isReply(header);
  const payload = decodeAs(reply ? replyKinds(record) : requestKinds(record), frame.payload);
  if (isFault(payload)) return failure(record, payload);
  const miscount = fdFault(payload, fds.length, reply ? record.replyFds : record.fds);
  if (miscount !== undefined) return failure(record, miscount, 0);
  return { ok: true, value: { channel, record, header, reply, needReply: needsReply(header), payload, fds } };
}

function failure(record: NamedMessage, fault: PayloadFault, base = HEADER_BYTES): Outcome<Message> {
  const text = `${record.name}: ${fault.message}`;
  return { ok: false, error: new WireError(fault.fault, text, record.id, base + fault.offset) };
}

function requestKinds(record: NamedMessage): readonly PayloadKind[] {
  return record.requestAlternative === undefined
    ? [record.request]
    : [record.request, record.requestAlternative];
}

// An answer is the message's own, or the u64 of REPLY_ACK, or under postcopy the region with its new base.
// "back-end uses zero length of payload to indicate an error" (vhost-user, VHOST_USER_GET_CONFIG), and QEMU
// takes a bare header for SET_LOG_BASE too, so an own answer may be empty.
function replyKinds(record: NamedMessage): readonly PayloadKind[] {
  if (record.replies === "always") return [record.reply, "none"];
  if (record.replies === "logShmfd") return [record.reply, "none"];
  return record.postcopyReply === undefined ? ["u64"] : ["u64", record.postcopyReply];
}

/** The first kind whose size fits; the fault of the first kind if none does. */
function decodeAs(kinds: readonly PayloadKind[], bytes: Uint8Array): Payload | PayloadFault {
  const outcomes = kinds.map((kind) => decodePayload(kind, bytes));
  return outcomes.find((outcome) => !isFault(outcome) || outcome.fault !== "payload-size") ?? outcomes[0];
}

function fdFault(payload: Payload, count: number, range: FdRange): PayloadFault | undefined {
  const { min, max } = fdsDue(payload, range);
  if (count >= min && count <= max) return undefined;
  const due = min === max ? `${min}` : `${min} to ${max}`;
  return { fault: "fd-count", message: `${count} descriptors where ${due} are due`, offset: 0 };
}

// Two payloads say themselves how many descriptors come: a memory table "size and ordering of the fds matches
// the number and ordering of memory regions", and the invalid FD flag of SET_VRING_KICK, _CALL and _ERR.
function fdsDue(payload: Payload, range: FdRange): FdRange {
  if (payload.kind === "memTable" && range.max > 0) {
    return { min: payload.regions.length, max: payload.regions.length };
  }
  if (payload.kind === "vringFd") return payload.noFd ? { min: 0, max: 0 } : { min: 1, max: 1 };
  return range;
}

/** The bytes of a message with any header flags: what encodeRequest and encodeReply are made of. */
export function encodeFrame(request: number, flags: number, payload: Payload): Uint8Array {
  const body = encodePayload(payload);
  const bytes = new Uint8Array(HEADER_BYTES + body.byteLength);
  encodeHeader({ request, flags: (FLAG.version | flags) >>> 0, size: body.byteLength }, bytes);
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

const NONE: Payload = { kind: "none" };

/**
 * The bytes of a request. The payload's kind must be the message's: otherwise it throws, since that is our
 * mistake. Descriptors are handed to sendmsg with the first of these bytes (vhost-user, Communication).
 */
export function encodeRequest<C extends Channel>(
  channel: C,
  name: MessageName<C>,
  payload: Payload = NONE,
  options: { readonly needReply?: boolean } = {},
): Uint8Array {
  const record = messageByName(channel, name);
  if (!requestKinds(record).includes(payload.kind)) {
    throw new TypeError(`${name} carries ${record.request}, not ${payload.kind}`);
  }
  return encodeFrame(record.id, options.needReply === true ? FLAG.needReply : 0, payload);
}

/** The bytes of the answer to a request, with the request's own number. */
export function encodeReply(request: Header, payload: Payload): Uint8Array {
  return encodeFrame(request.request, FLAG.reply, payload);
}

/** The u64 answer of REPLY_ACK: 0 for success, anything else for failure. */
export function encodeAck(request: Header, result: bigint): Uint8Array {
  return encodeReply(request, { kind: "u64", value: result });
}
