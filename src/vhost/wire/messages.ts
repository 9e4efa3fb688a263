// The messages of vhost-user as data: number, payloads, who may send them when, and how many descriptors come.
//
// One table for each direction. Source: vhost-user, Front-end message types and Back-end message types, and
// the programs named in notes. Nothing here acts; the sessions in src/vhost walk these tables.
import { F, has, PROTOCOL_F } from "../../virtio/index.js";
import { MAX_TABLE_REGIONS } from "./limits.js";
import type { PayloadKind } from "./payload.js";

/** Which socket, by who sends requests on it. */
export type Channel = "frontend" | "backend";

/** One condition that makes a message legal. */
export type Gate =
  /** The back-end offered the virtio-level bit; whether it was acknowledged does not matter. */
  | { readonly offered: number }
  /** The virtio-level bit was acknowledged with SET_FEATURES. */
  | { readonly acknowledged: number }
  /** The protocol feature was acknowledged with SET_PROTOCOL_FEATURES. */
  | { readonly protocol: number }
  /** The experimental explicit IOTLB was acknowledged, at whatever number it sits. */
  | { readonly explicitIotlb: true };

/**
 * When a message has an answer of its own:
 * - `always`: whatever was negotiated.
 * - `logShmfd`: if LOG_SHMFD was negotiated.
 * - `never`: only the u64 of REPLY_ACK, if it was negotiated and NEED_REPLY is set.
 */
export type ReplyRule = "always" | "logShmfd" | "never";

/** What the u64 of a message means, for printing. */
export type U64Meaning = "features" | "protocolFeatures" | "status" | "count" | "result" | "number";

/** A range of descriptor counts, both ends included. */
export interface FdRange {
  readonly min: number;
  readonly max: number;
}

/** What the protocol says of one message. */
export interface MessageRecord {
  readonly id: number;
  readonly request: PayloadKind;
  /** A second payload that the request may have instead, told apart by its size. */
  readonly requestAlternative?: PayloadKind;
  /** Payload of the message's own answer, or `none`. */
  readonly reply: PayloadKind;
  readonly replies: ReplyRule;
  /** Payload of the answer once POSTCOPY_LISTEN was received, where that differs. */
  readonly postcopyReply?: PayloadKind;
  /** Legal if any of these holds; legal always if empty. */
  readonly gates: readonly Gate[];
  readonly fds: FdRange;
  readonly replyFds: FdRange;
  readonly u64?: { readonly request?: U64Meaning; readonly reply?: U64Meaning };
  /** What the document or a program does that the other fields cannot say. */
  readonly note?: string;
}

const NO_FDS: FdRange = { min: 0, max: 0 };
const ONE_FD: FdRange = { min: 1, max: 1 };
const OPTIONAL_FD: FdRange = { min: 0, max: 1 };

/** A message without payload, descriptors, gate or answer of its own; entries override what they have. */
const PLAIN = {
  request: "none",
  reply: "none",
  replies: "never",
  gates: [],
  fds: NO_FDS,
  replyFds: NO_FDS,
} as const satisfies Omit<MessageRecord, "id">;

const protocol = (bit: number): readonly Gate[] => [{ protocol: bit }];
const HAS_PROTOCOL_FEATURES: readonly Gate[] = [{ offered: F.PROTOCOL_FEATURES }];
const IOTLB_GATES: readonly Gate[] = [{ acknowledged: F.ACCESS_PLATFORM }, { explicitIotlb: true }];

/** Requests of the front-end, by name without `VHOST_USER_`. */
export const FRONTEND_MESSAGES = {
  GET_FEATURES: { ...PLAIN, id: 1, reply: "u64", replies: "always", u64: { reply: "features" } },
  SET_FEATURES: {
    ...PLAIN,
    id: 2,
    request: "u64",
    u64: { request: "features" },
    note: "without PROTOCOL_FEATURES all rings are enabled at once",
  },
  SET_OWNER: { ...PLAIN, id: 3 },
  RESET_OWNER: { ...PLAIN, id: 4, note: "deprecated: ignore it or disable all rings" },
  SET_MEM_TABLE: {
    ...PLAIN,
    id: 5,
    request: "memTable",
    postcopyReply: "memTable",
    fds: { min: 0, max: MAX_TABLE_REGIONS },
    note: "one descriptor for each region, in the order of the regions",
  },
  SET_LOG_BASE: {
    ...PLAIN,
    id: 6,
    request: "log",
    requestAlternative: "u64",
    reply: "u64",
    replies: "logShmfd",
    fds: OPTIONAL_FD,
    u64: { reply: "result" },
    note: "without LOG_SHMFD the payload is a u64; with it the log description and a descriptor",
  },
  SET_LOG_FD: { ...PLAIN, id: 7, fds: ONE_FD },
  SET_VRING_NUM: { ...PLAIN, id: 8, request: "vringState" },
  SET_VRING_ADDR: { ...PLAIN, id: 9, request: "vringAddr" },
  SET_VRING_BASE: { ...PLAIN, id: 10, request: "vringState" },
  GET_VRING_BASE: {
    ...PLAIN,
    id: 11,
    request: "vringState",
    reply: "vringState",
    replies: "always",
    note: "stops the ring; num 1 in the request asks for GET_VRING_BASE_INFLIGHT",
  },
  SET_VRING_KICK: { ...PLAIN, id: 12, request: "vringFd", fds: OPTIONAL_FD },
  SET_VRING_CALL: { ...PLAIN, id: 13, request: "vringFd", fds: OPTIONAL_FD },
  SET_VRING_ERR: { ...PLAIN, id: 14, request: "vringFd", fds: OPTIONAL_FD },
  GET_PROTOCOL_FEATURES: {
    ...PLAIN,
    id: 15,
    reply: "u64",
    replies: "always",
    gates: HAS_PROTOCOL_FEATURES,
    u64: { reply: "protocolFeatures" },
  },
  SET_PROTOCOL_FEATURES: {
    ...PLAIN,
    id: 16,
    request: "u64",
    gates: HAS_PROTOCOL_FEATURES,
    u64: { request: "protocolFeatures" },
  },
  GET_QUEUE_NUM: {
    ...PLAIN,
    id: 17,
    reply: "u64",
    replies: "always",
    gates: protocol(PROTOCOL_F.MQ),
    u64: { reply: "count" },
  },
  SET_VRING_ENABLE: {
    ...PLAIN,
    id: 18,
    request: "vringState",
    gates: [{ acknowledged: F.PROTOCOL_FEATURES }],
  },
  SEND_RARP: { ...PLAIN, id: 19, request: "u64", gates: protocol(PROTOCOL_F.RARP) },
  NET_SET_MTU: {
    ...PLAIN,
    id: 20,
    request: "u64",
    gates: protocol(PROTOCOL_F.MTU),
    u64: { request: "count" },
  },
  SET_BACKEND_REQ_FD: { ...PLAIN, id: 21, gates: protocol(PROTOCOL_F.BACKEND_REQ), fds: ONE_FD },
  IOTLB_MSG: {
    ...PLAIN,
    id: 22,
    request: "iotlb",
    reply: "u64",
    replies: "always",
    gates: IOTLB_GATES,
    u64: { reply: "result" },
  },
  SET_VRING_ENDIAN: { ...PLAIN, id: 23, request: "vringState", gates: protocol(PROTOCOL_F.CROSS_ENDIAN) },
  GET_CONFIG: {
    ...PLAIN,
    id: 24,
    request: "config",
    reply: "config",
    replies: "always",
    gates: protocol(PROTOCOL_F.CONFIG),
    note: "the reply has the request's size; a reply without payload is an error",
  },
  SET_CONFIG: { ...PLAIN, id: 25, request: "config", gates: protocol(PROTOCOL_F.CONFIG) },
  CREATE_CRYPTO_SESSION: {
    ...PLAIN,
    id: 26,
    request: "opaque",
    reply: "opaque",
    replies: "always",
    gates: protocol(PROTOCOL_F.CRYPTO_SESSION),
  },
  CLOSE_CRYPTO_SESSION: { ...PLAIN, id: 27, request: "u64", gates: protocol(PROTOCOL_F.CRYPTO_SESSION) },
  POSTCOPY_ADVISE: {
    ...PLAIN,
    id: 28,
    reply: "opaque",
    replies: "always",
    gates: protocol(PROTOCOL_F.PAGEFAULT),
    replyFds: OPTIONAL_FD,
  },
  POSTCOPY_LISTEN: { ...PLAIN, id: 29, gates: protocol(PROTOCOL_F.PAGEFAULT) },
  POSTCOPY_END: {
    ...PLAIN,
    id: 30,
    reply: "u64",
    replies: "always",
    gates: protocol(PROTOCOL_F.PAGEFAULT),
    u64: { reply: "result" },
  },
  GET_INFLIGHT_FD: {
    ...PLAIN,
    id: 31,
    request: "inflight",
    reply: "inflight",
    replies: "always",
    gates: protocol(PROTOCOL_F.INFLIGHT_SHMFD),
    replyFds: OPTIONAL_FD,
  },
  SET_INFLIGHT_FD: {
    ...PLAIN,
    id: 32,
    request: "inflight",
    gates: protocol(PROTOCOL_F.INFLIGHT_SHMFD),
    fds: ONE_FD,
  },
  GPU_SET_SOCKET: { ...PLAIN, id: 33, fds: ONE_FD },
  RESET_DEVICE: { ...PLAIN, id: 34, gates: protocol(PROTOCOL_F.RESET_DEVICE) },
  VRING_KICK: { ...PLAIN, id: 35, request: "vringState", gates: protocol(PROTOCOL_F.INBAND_NOTIFICATIONS) },
  GET_MAX_MEM_SLOTS: {
    ...PLAIN,
    id: 36,
    reply: "u64",
    replies: "always",
    gates: protocol(PROTOCOL_F.CONFIGURE_MEM_SLOTS),
    u64: { reply: "count" },
  },
  ADD_MEM_REG: {
    ...PLAIN,
    id: 37,
    request: "memRegion",
    postcopyReply: "memRegion",
    gates: protocol(PROTOCOL_F.CONFIGURE_MEM_SLOTS),
    fds: ONE_FD,
  },
  REM_MEM_REG: {
    ...PLAIN,
    id: 38,
    request: "memRegion",
    gates: protocol(PROTOCOL_F.CONFIGURE_MEM_SLOTS),
    fds: OPTIONAL_FD,
    note: "a descriptor should not come; if one does, it is closed unused",
  },
  SET_STATUS: {
    ...PLAIN,
    id: 39,
    request: "u64",
    gates: protocol(PROTOCOL_F.STATUS),
    u64: { request: "status" },
  },
  GET_STATUS: {
    ...PLAIN,
    id: 40,
    reply: "u64",
    replies: "always",
    gates: protocol(PROTOCOL_F.STATUS),
    u64: { reply: "status" },
  },
  GET_SHARED_OBJECT: {
    ...PLAIN,
    id: 41,
    request: "sharedObject",
    reply: "opaque",
    replies: "always",
    gates: protocol(PROTOCOL_F.SHARED_OBJECT),
    replyFds: OPTIONAL_FD,
  },
  SET_DEVICE_STATE_FD: {
    ...PLAIN,
    id: 42,
    request: "deviceState",
    reply: "u64",
    replies: "always",
    gates: protocol(PROTOCOL_F.DEVICE_STATE),
    fds: ONE_FD,
    replyFds: OPTIONAL_FD,
    note: "the reply's bits 0-7 are an error, bit 8 says that no descriptor comes back",
  },
  CHECK_DEVICE_STATE: {
    ...PLAIN,
    id: 43,
    reply: "u64",
    replies: "always",
    gates: protocol(PROTOCOL_F.DEVICE_STATE),
    u64: { reply: "result" },
  },
  GET_SHMEM_CONFIG: {
    ...PLAIN,
    id: 44,
    reply: "shmemConfig",
    replies: "always",
    gates: protocol(PROTOCOL_F.SHMEM),
  },
} as const satisfies Readonly<Record<string, MessageRecord>>;

/** Requests of the back-end, by name without `VHOST_USER_BACKEND_` (formerly `VHOST_USER_SLAVE_`). */
export const BACKEND_MESSAGES = {
  IOTLB_MSG: { ...PLAIN, id: 1, request: "iotlb", gates: IOTLB_GATES },
  CONFIG_CHANGE_MSG: { ...PLAIN, id: 2, gates: protocol(PROTOCOL_F.CONFIG) },
  VRING_HOST_NOTIFIER_MSG: {
    ...PLAIN,
    id: 3,
    request: "vringArea",
    gates: protocol(PROTOCOL_F.HOST_NOTIFIER),
    fds: OPTIONAL_FD,
  },
  VRING_CALL: { ...PLAIN, id: 4, request: "vringState", gates: protocol(PROTOCOL_F.INBAND_NOTIFICATIONS) },
  VRING_ERR: { ...PLAIN, id: 5, request: "vringState", gates: protocol(PROTOCOL_F.INBAND_NOTIFICATIONS) },
  SHARED_OBJECT_ADD: {
    ...PLAIN,
    id: 6,
    request: "sharedObject",
    gates: protocol(PROTOCOL_F.SHARED_OBJECT),
  },
  SHARED_OBJECT_REMOVE: {
    ...PLAIN,
    id: 7,
    request: "sharedObject",
    gates: protocol(PROTOCOL_F.SHARED_OBJECT),
  },
  SHARED_OBJECT_LOOKUP: {
    ...PLAIN,
    id: 8,
    request: "sharedObject",
    reply: "u64",
    replies: "always",
    gates: protocol(PROTOCOL_F.SHARED_OBJECT),
    replyFds: OPTIONAL_FD,
    u64: { reply: "result" },
  },
  SHMEM_MAP: { ...PLAIN, id: 9, request: "shmemMap", gates: protocol(PROTOCOL_F.SHMEM), fds: ONE_FD },
  SHMEM_UNMAP: { ...PLAIN, id: 10, request: "shmemMap", gates: protocol(PROTOCOL_F.SHMEM) },
} as const satisfies Readonly<Record<string, MessageRecord>>;

/** Names of the front-end's requests. */
export type FrontendMessageName = keyof typeof FRONTEND_MESSAGES;

/** Names of the back-end's requests. */
export type BackendMessageName = keyof typeof BACKEND_MESSAGES;

/** The names of the requests on a channel. */
export type MessageName<C extends Channel = Channel> = C extends "frontend"
  ? FrontendMessageName
  : BackendMessageName;

/** A record with its name and channel. */
export interface NamedMessage extends MessageRecord {
  readonly name: MessageName;
  readonly channel: Channel;
}

function indexOf(
  channel: Channel,
  table: Readonly<Record<string, MessageRecord>>,
): ReadonlyMap<number, NamedMessage> {
  const entries = Object.entries(table) as [MessageName, MessageRecord][];
  return new Map(entries.map(([name, record]) => [record.id, { ...record, name, channel }]));
}

const BY_ID: Readonly<Record<Channel, ReadonlyMap<number, NamedMessage>>> = {
  frontend: indexOf("frontend", FRONTEND_MESSAGES),
  backend: indexOf("backend", BACKEND_MESSAGES),
};

/** The record of a request number on a channel, or undefined for a number that nobody assigned. */
export function messageById(channel: Channel, id: number): NamedMessage | undefined {
  return BY_ID[channel].get(id);
}

/** The record of a request by name. */
export function messageByName<C extends Channel>(channel: C, name: MessageName<C>): NamedMessage {
  const table: Readonly<Record<string, MessageRecord>> =
    channel === "frontend" ? FRONTEND_MESSAGES : BACKEND_MESSAGES;
  return { ...table[name], name, channel };
}

/** Every request of a channel, by number. */
export function messagesOf(channel: Channel): readonly NamedMessage[] {
  return [...BY_ID[channel].values()];
}

/** The negotiated words that gates and reply rules depend on. */
export interface NegotiatedWords {
  /** What GET_FEATURES answered. */
  readonly offeredFeatures: bigint;
  /** What SET_FEATURES acknowledged. */
  readonly features: bigint;
  /** What SET_PROTOCOL_FEATURES acknowledged. */
  readonly protocolFeatures: bigint;
  /** Where the experimental explicit IOTLB sits; undefined if it was not offered. */
  readonly explicitIotlbBit?: number;
}

/** Whether the negotiated features make a message legal. */
export function isLegal(record: MessageRecord, words: NegotiatedWords): boolean {
  return record.gates.length === 0 || record.gates.some((gate) => gateHolds(gate, words));
}

function gateHolds(gate: Gate, words: NegotiatedWords): boolean {
  if ("offered" in gate) return has(words.offeredFeatures, gate.offered);
  if ("acknowledged" in gate) return has(words.features, gate.acknowledged);
  if ("protocol" in gate) return has(words.protocolFeatures, gate.protocol);
  return words.explicitIotlbBit !== undefined && has(words.protocolFeatures, words.explicitIotlbBit);
}

/**
 * What a receiver owes for a request: its own reply, the u64 of REPLY_ACK, or nothing.
 *
 * "For the message types that already solicit a reply from the back-end, the presence of REPLY_ACK or
 * need_reply bit being set brings no behavioural change." (vhost-user, VHOST_USER_PROTOCOL_F_REPLY_ACK.)
 */
export function replyDue(
  record: MessageRecord | undefined,
  needReply: boolean,
  protocolFeatures: bigint,
): "reply" | "ack" | "none" {
  if (record?.replies === "always") return "reply";
  if (record?.replies === "logShmfd" && has(protocolFeatures, PROTOCOL_F.LOG_SHMFD)) return "reply";
  return needReply && has(protocolFeatures, PROTOCOL_F.REPLY_ACK) ? "ack" : "none";
}
