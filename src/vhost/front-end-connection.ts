/**
 * The connection of a front-end's session: sends requests, waits for what is due, and meanwhile serves the back-end's
 * questions (MISS) on the channel that it gave it, as QEMU does. Knows the protocol's rules for replies and no message
 * in particular; the typed calls are in front-end-session.ts.
 */

import { closeSync } from "node:fs";
import { EPOLLIN, Epoll } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import { receiveMessage, sendMessage } from "../linux/message-socket.js";
import { setNonBlocking, socketPair } from "../linux/unix-socket.js";
import { has, PROTOCOL_F } from "../virtio/index.js";
import { FrontEndError } from "./front-end-error.js";
import {
  decodeMessage,
  encodeAck,
  encodeRequest,
  type Frame,
  FrameDecoder,
  type FrontendMessageName,
  IOTLB_TYPE,
  type IotlbMessage,
  type Message,
  messageByName,
  type Payload,
  replyDue,
} from "./wire/index.js";

/** What happened with a request: its reply, an acknowledgement's result, or nothing was due. */
export type Answered =
  | { readonly kind: "reply"; readonly payload: Payload }
  | { readonly kind: "ack"; readonly result: bigint }
  | { readonly kind: "none" };

export interface FrontEndOptions {
  /** Ask for an acknowledgement with every message, once REPLY_ACK is negotiated. Default false, like QEMU mostly. */
  readonly needReply?: boolean;
  /** How long to wait for an answer. Default 5000. */
  readonly timeoutMs?: number;
  /**
   * Lets `timeoutMs` pass at most, or until something comes. Default: waits for both sockets. A test that runs the
   * back-end in the same thread turns its event loop here.
   */
  readonly pump?: (timeoutMs: number) => void;
  /** The clock of `timeoutMs`, in milliseconds, for whoever has one of his own beside `pump`. */
  readonly now?: () => number;
  /**
   * Called for each MISS that the back-end sends; it usually answers with `iotlbUpdate`. Whether that was possible is
   * what a MISS that asks for a reply is answered with; undefined: it gets none all the same. Default: nothing is mapped.
   */
  readonly onMiss?: (miss: IotlbMessage) => boolean | undefined;
}

const NOTHING: Payload = { kind: "none" };
const PUMP_MS = 50;

export class FrontEndConnection {
  needReply: boolean;
  /** Where descriptors of a reply go that somebody waits for. */
  #takenFds: number[] | undefined;
  /** What was acknowledged so far. */
  features = 0n;
  protocolFeatures = 0n;
  /** How many MISS messages came. */
  missCount = 0;
  onMiss: (miss: IotlbMessage) => boolean | undefined;

  readonly #fd: number;
  readonly #timeoutMs: number;
  readonly #decoder = new FrameDecoder();
  readonly #pump: (timeoutMs: number) => void;
  readonly #now: () => number;
  readonly #epoll: Epoll | undefined;
  #channelFd = -1;
  #channelDecoder = new FrameDecoder();
  #isServing = false;
  #isClosed = false;
  /** Who waits for an answer, in the order of the requests. */
  readonly #waiting: { answer: Message | undefined }[] = [];

  /** Takes ownership of `fd`, a socket connected to a back-end. */
  constructor(fd: number, options: FrontEndOptions = {}) {
    setNonBlocking(fd);
    this.#fd = fd;
    this.needReply = options.needReply ?? false;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.onMiss = options.onMiss ?? (() => false);
    this.#now = options.now ?? (() => performance.now());
    if (options.pump === undefined) {
      const epoll = new Epoll();
      epoll.add(fd, EPOLLIN, 0);
      this.#epoll = epoll;
      this.#pump = (timeoutMs) => void epoll.wait(timeoutMs);
    } else {
      this.#pump = options.pump;
    }
  }

  /** Makes the back-end channel: gives one end to the back-end, and serves the other while calls wait. */
  openBackendChannel(): void {
    const [ours, theirs] = socketPair();
    try {
      this.tell("SET_BACKEND_REQ_FD", NOTHING, [theirs]);
    } catch (error) {
      closeSync(ours);
      throw error;
    } finally {
      closeSync(theirs);
    }
    this.closeBackendChannel();
    this.#channelFd = ours;
    this.#epoll?.add(ours, EPOLLIN, 1);
  }

  closeBackendChannel(): void {
    if (this.#channelFd < 0) return;
    this.#epoll?.remove(this.#channelFd);
    closeSync(this.#channelFd);
    this.#channelFd = -1;
    this.#channelDecoder = new FrameDecoder();
  }

  /** Our end of the back-end channel, to be watched (and only that) for questions; -1 if there is none. */
  get channelFd(): number {
    return this.#channelFd;
  }

  /** Sends a message and waits for what is due. */
  request(
    name: FrontendMessageName,
    payload: Payload = NOTHING,
    options: { readonly fds?: readonly number[]; readonly needReply?: boolean } = {},
  ): Answered {
    const needReply =
      options.needReply ?? (this.needReply && has(this.protocolFeatures, PROTOCOL_F.REPLY_ACK));
    const bytes = encodeRequest("frontend", name, payload, { needReply });
    this.sendBytes(bytes, options.fds);
    const due = replyDue(messageByName("frontend", name), needReply, this.protocolFeatures);
    if (due === "none") return { kind: "none" };
    const answer = this.receive();
    if (answer.record.name !== name) {
      throw new FrontEndError("unexpected-reply", `${name} was answered with ${answer.record.name}`);
    }
    if (due === "reply") return { kind: "reply", payload: answer.payload };
    if (answer.payload.kind !== "u64") {
      throw new FrontEndError("unexpected-reply", `${name} was acknowledged with ${answer.payload.kind}`);
    }
    return { kind: "ack", result: answer.payload.value };
  }

  /** As `request`, for a reply that comes with descriptors: they are the caller's. */
  requestWithFds(name: FrontendMessageName, payload: Payload): { answer: Answered; fds: readonly number[] } {
    this.#takenFds = [];
    try {
      return { answer: this.request(name, payload), fds: this.#takenFds };
    } finally {
      this.#takenFds = undefined;
    }
  }

  /** Sends a message that has no reply of its own. Throws if it asked for an acknowledgement and is refused. */
  tell(name: FrontendMessageName, payload: Payload = NOTHING, fds: readonly number[] = []): void {
    const answer = this.request(name, payload, { fds });
    if (answer.kind === "ack" && answer.result !== 0n) {
      throw new FrontEndError("refused", `the back-end refused ${name} (result ${answer.result})`);
    }
  }

  /**
   * Sends any bytes, descriptors with the first of them; waits for room in the socket. Serves no question meanwhile:
   * what that sends would land in the middle of these bytes.
   */
  sendBytes(bytes: Uint8Array, fds: readonly number[] = []): void {
    let at = 0;
    const deadlineMs = this.#now() + this.#timeoutMs;
    while (at < bytes.length) {
      const sent = sendMessage(this.#fd, bytes.subarray(at), at === 0 ? fds : []);
      if (sent === -errno.EAGAIN) this.#letPass(deadlineMs, "room in the socket");
      else if (sent < 0) throw new FrontEndError("closed", `the back-end left: ${errnoName(-sent)}`);
      else at += sent;
    }
  }

  /**
   * Waits for the next message of the back-end on the main socket. Waiting may serve a MISS, whose UPDATE waits for an
   * answer of its own: answers come in the order of the requests, so the outer one's comes first.
   */
  receive(): Message {
    const deadlineMs = this.#now() + this.#timeoutMs;
    const own: { answer: Message | undefined } = { answer: undefined };
    this.#waiting.push(own);
    try {
      while (own.answer === undefined) {
        const message = this.#tryReceive();
        const first = this.#waiting.find(({ answer }) => answer === undefined);
        if (message === undefined) this.#wait(deadlineMs, "an answer");
        else if (first !== undefined) first.answer = message;
      }
      return own.answer;
    } finally {
      this.#waiting.splice(this.#waiting.indexOf(own), 1);
    }
  }

  /** Serves the questions that wait on the back-end channel, and returns how many those were. */
  serve(): number {
    if (this.#isServing || this.#channelFd < 0) return 0;
    this.#isServing = true;
    let served = 0;
    try {
      for (let message = this.#nextQuestion(); message !== undefined; message = this.#nextQuestion()) {
        this.#answerQuestion(message);
        served++;
      }
    } finally {
      this.#isServing = false;
    }
    return served;
  }

  /** Lets time pass, and serves questions, until `condition` holds. */
  waitFor(condition: () => boolean, what = "the condition"): void {
    const deadlineMs = this.#now() + this.#timeoutMs;
    while (!condition()) this.#wait(deadlineMs, what);
  }

  /** Whether the back-end has closed the connection. Reads nothing but the end. */
  get backendLeft(): boolean {
    try {
      const message = this.#tryReceive();
      if (message !== undefined)
        throw new FrontEndError("unexpected-reply", `${message.record.name} came unasked`);
      return false;
    } catch (error) {
      if (error instanceof FrontEndError && error.code === "closed") return true;
      throw error;
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.closeBackendChannel();
    this.#epoll?.close();
    closeSync(this.#fd);
  }

  #wait(deadlineMs: number, what: string): void {
    if (this.serve() === 0) this.#letPass(deadlineMs, what);
  }

  #letPass(deadlineMs: number, what: string): void {
    const remainingMs = deadlineMs - this.#now();
    if (remainingMs <= 0) throw new FrontEndError("timeout", `waited ${this.#timeoutMs} ms for ${what}`);
    this.#pump(Math.min(PUMP_MS, Math.ceil(remainingMs)));
  }

  #tryReceive(): Message | undefined {
    const frame = readFrame(this.#fd, this.#decoder, this.#takenFds);
    return frame === undefined ? undefined : understood("frontend", frame);
  }

  #nextQuestion(): Message | undefined {
    if (this.#channelFd < 0) return undefined;
    try {
      const frame = readFrame(this.#channelFd, this.#channelDecoder);
      return frame === undefined ? undefined : understood("backend", frame);
    } catch (error) {
      if (!(error instanceof FrontEndError && error.code === "closed")) throw error;
      this.closeBackendChannel();
      return undefined;
    }
  }

  #answerQuestion({ payload, header, needReply }: Message): void {
    let isAnswered: boolean | undefined = false;
    if (payload.kind === "iotlb" && payload.type === IOTLB_TYPE.MISS) {
      this.missCount++;
      isAnswered = this.onMiss(payload);
    }
    // "Front-end answers u64 only if REPLY_ACK && need_reply", after the UPDATE on the main socket.
    if (isAnswered === undefined || !needReply) return;
    if (!has(this.protocolFeatures, PROTOCOL_F.REPLY_ACK) || this.#channelFd < 0) return;
    sendMessage(this.#channelFd, encodeAck(header, isAnswered ? 0n : 1n));
  }
}

/** The next whole frame, or undefined if nothing more is there now. Closes descriptors that come along and nobody takes. */
function readFrame(fd: number, decoder: FrameDecoder, taken?: number[]): Frame | undefined {
  for (;;) {
    const { result, bytes, descriptors } = receiveMessage(fd, decoder.bytesWanted);
    if (taken === undefined) for (const descriptor of descriptors) closeSync(descriptor);
    else taken.push(...descriptors);
    if (result === -errno.EAGAIN) return undefined;
    if (result < 0) throw new FrontEndError("closed", `the back-end left: ${errnoName(-result)}`);
    if (result === 0) throw new FrontEndError("closed", "the back-end closed the connection");
    decoder.push(bytes);
    const next = decoder.next();
    if (next === undefined) continue;
    if (!next.ok) throw new FrontEndError("malformed", next.error.message);
    return next.value;
  }
}

function understood(channel: "frontend" | "backend", frame: Frame): Message {
  const decoded = decodeMessage(channel, frame);
  if (!decoded.ok) throw new FrontEndError("malformed", decoded.error.message);
  return decoded.value;
}
