/**
 * One connected vhost-user session, back-end side: the socket, message by message, and its end. What a message does is
 * in the handlers (handlers.ts), what state there is in session-core.ts, what bytes look like in wire/.
 *
 * Everything runs on the device's event loop, and so does the data plane: each message is handled between two bursts,
 * no burst keeps a translated address, and therefore every answer is a barrier (INVALIDATE, memory table, stop).
 */

import { closeSync } from "node:fs";
import { EPOLLIN, EPOLLOUT } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import type { EventHandler } from "../linux/event-loop.js";
import { receiveMessage } from "../linux/message-socket.js";
import { setNonBlocking } from "../linux/unix-socket.js";
import { type Answer, refused } from "./answer.js";
import { ReceivedFds } from "./descriptors.js";
import { HANDLERS, UNGATED } from "./handlers.js";
import { Outbox } from "./outbox.js";
import { SessionCore, type SessionParts } from "./session-core.js";
import type { TranslationRecord } from "./translation.js";
import {
  decodeMessage,
  describeFrame,
  describeMessage,
  encodeAck,
  encodeReply,
  type Frame,
  FrameDecoder,
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

/** Messages of one wake-up. Our choice: a front-end that floods its socket must not hold up the rings. */
const MOST_MESSAGES = 128;

/** The u64 of an acknowledgement: 0 for success, anything else for failure. */
const SUCCEEDED = 0n;
const FAILED = 1n;

export interface BackendSessionParts extends SessionParts {
  /** The connected socket; the session owns and closes it. */
  readonly fd: number;
}

export class BackendSession implements EventHandler {
  readonly #parts: BackendSessionParts;
  readonly #core: SessionCore;
  readonly #decoder = new FrameDecoder();
  readonly #outbox: Outbox;
  readonly #token: number;
  readonly #afterEvents = (): void => this.#core.afterEvents();
  #isOpen = true;

  /** Starts the session: it runs on `parts.loop` until the front-end leaves, something breaks, or `end`. */
  constructor(parts: BackendSessionParts) {
    this.#parts = parts;
    this.#core = new SessionCore(parts);
    this.#outbox = new Outbox(parts.fd);
    setNonBlocking(parts.fd);
    this.#token = parts.loop.watch(parts.fd, EPOLLIN, this);
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
    const { loop, fd, log, device } = this.#parts;
    loop.removeAfterEvents(this.#afterEvents);
    loop.unwatch(fd, this.#token);
    this.#core.close(reason);
    for (const received of this.#decoder.releaseFds()) closeSync(received);
    closeSync(fd);
    log.log({ event: "session-end", message: reason });
    device.sessionEnded(reason);
  }

  onEvents(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#flush();
    if (this.#isOpen && (events & ~EPOLLOUT) !== 0) this.#read();
  }

  #flush(): void {
    const result = this.#outbox.flush();
    if (result < 0) this.end(`the session's socket cannot be written: ${errnoName(-result)}`);
    else if (this.#outbox.isEmpty) this.#parts.loop.modify(this.#parts.fd, EPOLLIN, this.#token);
  }

  /** Takes no new message while an answer waits for room in the socket. */
  #read(): void {
    let messages = 0;
    while (this.#isOpen && this.#outbox.isEmpty && messages < MOST_MESSAGES) {
      if (!this.#receive()) return;
      const next = this.#decoder.next();
      if (next === undefined) continue;
      messages++;
      if (next.ok) this.#handleFrame(next.value);
      else this.end(`message boundaries are lost: ${next.error.message}`);
    }
  }

  /**
   * Reads exactly to the end of a header or payload, so that descriptors belong to their message whatever the sender
   * packed together. False if nothing is there, or the session is over.
   */
  #receive(): boolean {
    const received = receiveMessage(this.#parts.fd, this.#decoder.bytesWanted);
    const { result, bytes, descriptors } = received;
    if (result > 0 && !received.descriptorsLost) {
      this.#decoder.push(bytes, descriptors);
      return true;
    }
    if (result > 0) this.end("descriptors were lost on the way: too many came, or too many files are open");
    else if (result === 0) this.end(this.#decoder.end()?.message ?? "the front-end closed the connection");
    else if (result !== -errno.EAGAIN) this.end(`the session's socket cannot be read: ${errnoName(-result)}`);
    return false;
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
    if (bytes !== undefined) this.#send(bytes);
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

  #send(bytes: Uint8Array): void {
    const result = this.#outbox.send(bytes);
    if (result < 0) this.end(`the session's socket cannot be written: ${errnoName(-result)}`);
    else if (!this.#outbox.isEmpty) this.#parts.loop.modify(this.#parts.fd, EPOLLOUT, this.#token);
  }

  #logRefusal(description: string, rule: string, record: NamedMessage | undefined): void {
    this.#parts.log.log({
      event: "message-refused",
      message: `${description}: ${rule}`,
      fields: { message: record?.name ?? "unknown" },
    });
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
  const isResult = record?.reply === "u64" && record.u64?.reply === "result";
  return isResult ? encodeAck(header, FAILED) : encodeReply(header, { kind: "none" });
}
