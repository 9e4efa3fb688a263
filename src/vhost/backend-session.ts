/**
 * One connected vhost-user session, back-end side: message by message, and its end. The socket is message-connection.ts's;
 * what a message does is in the handlers (handlers.ts), what state there is in session-core.ts, what bytes look like in
 * wire/.
 *
 * Everything runs on the device's event loop, and so does the data plane: each message is handled between two bursts,
 * no burst keeps a translated address, and therefore every answer is a barrier (INVALIDATE, memory table, stop).
 */

import { closeSync } from "node:fs";
import type { IotlbStatistics } from "../memory/iotlb.js";
import { type Answer, refused } from "./answer.js";
import { ReceivedFds } from "./descriptors.js";
import { HANDLERS, UNGATED } from "./handlers.js";
import { type ConnectionEnd, MessageConnection } from "./message-connection.js";
import { SessionCore, type SessionParts } from "./session-core.js";
import type { TranslationRecord } from "./translation.js";
import {
  decodeMessage,
  describeFrame,
  describeMessage,
  encodeAck,
  encodeReply,
  type Frame,
  type FrontendMessageName,
  type Header,
  isLegal,
  isReply,
  type Message,
  messageById,
  type NamedMessage,
  needsReply,
  replyDue,
} from "./wire/index.js";

/** The u64 of an acknowledgement: 0 for success, anything else for failure. */
const SUCCEEDED = 0n;
const FAILED = 1n;

export interface BackendSessionParts extends SessionParts {
  /** The connected socket; the session owns and closes it. */
  readonly fd: number;
}

export class BackendSession {
  readonly #parts: BackendSessionParts;
  readonly #core: SessionCore;
  readonly #connection: MessageConnection;
  readonly #afterEvents = (): void => this.#core.afterEvents();
  #isOpen = true;

  /** Starts the session: it runs on `parts.loop` until the front-end leaves, something breaks, or `end`. */
  constructor(parts: BackendSessionParts) {
    this.#parts = parts;
    this.#core = new SessionCore(parts);
    this.#connection = new MessageConnection(parts.fd, parts.loop, {
      frame: (frame) => this.#handleFrame(frame),
      ended: (end) => this.end(reasonOf(end)),
    });
    parts.loop.afterEvents(this.#afterEvents);
    parts.log.log({ event: "session-start", message: "a front-end connected" });
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** What is known of the translation mode. */
  get translation(): TranslationRecord {
    return this.#core.translation.record;
  }

  /** What the session's IOTLB has done. */
  get iotlbStatistics(): Readonly<IotlbStatistics> {
    return this.#core.link.iotlb.statistics;
  }

  /** Virtio features in effect. */
  get features(): bigint {
    return this.#core.features;
  }

  get protocolFeatures(): bigint {
    return this.#core.protocolFeatures;
  }

  /** Ends the session: rings are stopped, everything lent is given back, the device is told. Idempotent. */
  end(reason: string): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const { loop, log, device } = this.#parts;
    loop.removeAfterEvents(this.#afterEvents);
    this.#core.close(reason);
    this.#connection.close();
    log.log({ event: "session-end", message: reason });
    device.sessionEnded(reason);
  }

  #handleFrame(frame: Frame): void {
    const fds = new ReceivedFds(frame.fds);
    const record = messageById("frontend", frame.header.request);
    const decoded = decodeMessage("frontend", frame);
    // Descriptions are made before the handler runs: it may take the descriptors that they count.
    const describe = (): string => (decoded.ok ? describeMessage(decoded.value) : describeFrame(frame));
    let answer: Answer;
    try {
      answer = decoded.ok ? this.#obey(decoded.value, fds) : refused(decoded.error.message);
    } finally {
      fds.closeRest();
    }
    const problem = this.#core.settle();
    if (problem !== undefined && answer.kind === "done") answer = refused(problem);
    if (answer.kind === "refused" || answer.kind === "fatal")
      this.#logRefusal(describe(), answer.rule, record);
    const bytes = replyTo(frame.header, record, answer, this.#core.protocolFeatures);
    const fd = answer.kind === "reply" ? answer.fd : undefined;
    if (bytes !== undefined) this.#connection.send(bytes, fd);
    if (fd !== undefined) closeSync(fd);
    if (answer.kind === "fatal") this.end(answer.rule);
  }

  #obey(message: Message, fds: ReceivedFds): Answer {
    const { record } = message;
    const handler = HANDLERS[record.name as FrontendMessageName];
    if (message.reply) return refused("a front-end sends requests on this socket, and this is a reply");
    if (handler === undefined)
      return refused("this back-end does not implement it and offers nothing that needs it");
    if (!UNGATED.has(record.name) && !isLegal(record, this.#core.words)) {
      return refused("the feature that makes it legal was not negotiated");
    }
    return handler(this.#core, message, fds);
  }

  #logRefusal(description: string, rule: string, record: NamedMessage | undefined): void {
    this.#parts.log.log({
      event: "message-refused",
      message: `${description}: ${rule}`,
      fields: { message: record?.name ?? "unknown" },
    });
  }
}

function reasonOf(end: ConnectionEnd): string {
  switch (end.how) {
    case "closed":
      return end.cut ?? "the front-end closed the connection";
    case "unreadable":
      return `the session's socket cannot be read: ${end.error}`;
    case "unwritable":
      return `the session's socket cannot be written: ${end.error}`;
    case "malformed":
      return `message boundaries are lost: ${end.problem}`;
    case "descriptors-lost":
      return "descriptors were lost on the way: too many came, or too many files are open";
  }
}

/**
 * The bytes that are due for an answer. "If the back-end supports REPLY_ACK … and need_reply is set, it must respond
 * with a u64"; a message with a reply of its own gets that, or its error form: a u64 that is not 0 where the reply
 * is a result, no payload otherwise (VHOST_USER_GET_CONFIG says so, and QEMU takes any other size for an error).
 */
export function replyTo(
  header: Header,
  record: NamedMessage | undefined,
  answer: Answer,
  protocolFeatures: bigint,
): Uint8Array | undefined {
  const due = replyDue(record, needsReply(header), protocolFeatures);
  if (due === "none" || isReply(header)) return undefined;
  const failed = answer.kind === "refused" || answer.kind === "fatal";
  if (due === "ack") return encodeAck(header, failed ? FAILED : SUCCEEDED);
  if (answer.kind === "reply") return encodeReply(header, answer.payload);
  // Of SET_DEVICE_STATE_FD's, bits 0 to 7 are one.
  const isResult =
    record?.reply === "u64" && (record.u64?.reply === "result" || record.name === "SET_DEVICE_STATE_FD");
  return isResult ? encodeAck(header, FAILED) : encodeReply(header, { kind: "none" });
}
