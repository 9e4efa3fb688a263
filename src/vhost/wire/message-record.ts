/**
 * What the protocol says of one vhost-user message, as a record: payloads, gates, descriptors, answer.
 *
 * The tables made of these records are frontend-messages.ts and backend-messages.ts; messages.ts looks them up.
 */
import { F } from "../../virtio/index.js";
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

/** No descriptor. */
export const NO_FDS: FdRange = { min: 0, max: 0 };
/** Exactly one descriptor. */
export const ONE_FD: FdRange = { min: 1, max: 1 };
/** A descriptor or none. */
export const OPTIONAL_FD: FdRange = { min: 0, max: 1 };

/** A message without payload, descriptors, gate or answer of its own; entries override what they have. */
export const PLAIN = {
  request: "none",
  reply: "none",
  replies: "never",
  gates: [],
  fds: NO_FDS,
  replyFds: NO_FDS,
} as const satisfies Omit<MessageRecord, "id">;

/** Legal once the protocol feature is acknowledged. */
export const protocol = (bit: number): readonly Gate[] => [{ protocol: bit }];
/** Legal once the back-end has offered protocol features. */
export const HAS_PROTOCOL_FEATURES: readonly Gate[] = [{ offered: F.PROTOCOL_FEATURES }];
/** Legal under either way to ask for translation: the documented one and the explicit one. */
export const IOTLB_GATES: readonly Gate[] = [{ acknowledged: F.ACCESS_PLATFORM }, { explicitIotlb: true }];
