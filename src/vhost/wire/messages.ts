/**
 * Looks vhost-user messages up by number and name, and says when one is legal and what answer is due.
 *
 * Nothing here acts; the sessions in src/vhost walk these tables.
 */
import { has, PROTOCOL_F } from "../../virtio/index.js";
import { BACKEND_MESSAGES } from "./backend-messages.js";
import { FRONTEND_MESSAGES } from "./frontend-messages.js";
import type { Channel, Gate, MessageRecord } from "./message-record.js";

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
