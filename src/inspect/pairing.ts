/**
 * Which answer belongs to which request of one channel, and which answers are due. Back-ends take messages one after
 * the other, so answers come in the order of their requests, and one that is passed over never comes. Judges nothing.
 */

import { replyDue } from "../vhost/wire/index.js";
import { has, PROTOCOL_F } from "../virtio/index.js";
import type { SessionMessage } from "./message.js";
import type { SessionModel } from "./model/session-model.js";

/** `maybe`: an answer may come, and nobody can say that it has to. */
export type Due = "reply" | "ack" | "maybe";

export interface OpenRequest {
  readonly number: number;
  readonly message: SessionMessage;
  readonly due: Due;
}

/** An answer, with the requests before its own that nobody will answer any more. */
export interface Pairing {
  /** Undefined: nothing waits for such an answer. */
  readonly request: OpenRequest | undefined;
  readonly passedOver: readonly OpenRequest[];
}

/** More never wait in a session that works; older ones are forgotten. */
const MOST_OPEN = 4096;

export class Pairings {
  #open: OpenRequest[] = [];

  get open(): readonly OpenRequest[] {
    return this.#open;
  }

  /** Remembers a request that may be answered. */
  ask(number: number, message: SessionMessage, model: SessionModel): void {
    const due = dueFor(message, model);
    if (due === undefined) return;
    this.#open.push({ number, message, due });
    if (this.#open.length > MOST_OPEN) this.#open.shift();
  }

  answer(message: SessionMessage): Pairing {
    const call = message.systemCall?.call;
    const at = this.#open.findIndex((open) =>
      call === undefined ? open.message.request === message.request : open.message.systemCall?.call === call,
    );
    if (at < 0) return { request: undefined, passedOver: [] };
    // Calls of several threads pass over nothing.
    if (call !== undefined) return { request: this.#open.splice(at, 1)[0], passedOver: [] };
    const taken = this.#open.splice(0, at + 1);
    return { request: taken.at(-1), passedOver: taken.slice(0, -1).filter(({ due }) => due !== "maybe") };
  }

  /** What was not seen may have been an answer. */
  clear(): void {
    this.#open = [];
  }
}

function dueFor(
  { record, needReply, payload, name, channel }: SessionMessage,
  model: SessionModel,
): Due | undefined {
  // A system call has its result.
  if (model.transport === "kernel-vhost") return channel === "main" ? "ack" : undefined;
  const protocol = model.protocolAcknowledged ?? 0n;
  if (record === undefined) return "maybe";
  // Whether it answers itself is decided by what it says; peers differ.
  if (name === "SET_PROTOCOL_FEATURES" && needReply) {
    return payload?.kind === "u64" && has(payload.value & protocol, PROTOCOL_F.REPLY_ACK) ? "ack" : "maybe";
  }
  const due = replyDue(record, needReply, protocol);
  if (due !== "none") return due;
  // Old back-ends answer it always; under postcopy a memory message has an answer of its own.
  if (record.replies === "logShmfd" || record.postcopyReply !== undefined) return "maybe";
  // Of a session that was not seen from its start the negotiated words are not known.
  return model.isFromStart && !model.hasGap ? undefined : "maybe";
}
