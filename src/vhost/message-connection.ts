/**
 * The back-end's end of a vhost-user session's socket: bytes in, whole frames out to its user, answers back, and how
 * it ended. Whoever is behind it (a served device, a model of somebody else's, an observer) decides what a message
 * does and words the end. Must not know what frames mean, nor any state of a session.
 */

import { closeSync } from "node:fs";
import { EPOLLIN, EPOLLOUT } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import { receiveMessage, sendMessage } from "../linux/message-socket.js";
import { setNonBlocking } from "../linux/unix-socket.js";
import { Outbox } from "./outbox.js";
import { type Frame, FrameDecoder } from "./wire/index.js";

/** Messages of one wake-up. Our choice: a front-end that floods its socket must not hold up the rings. */
const MOST_MESSAGES = 128;

/** Why no message can come any more. */
export type ConnectionEnd =
  /** The front-end closed the connection; `cut` says so if that was within a message. */
  | { readonly how: "closed"; readonly cut: string | undefined }
  /** Reading failed with this error, perhaps within a message. */
  | { readonly how: "unreadable"; readonly error: string; readonly cut: string | undefined }
  | { readonly how: "unwritable"; readonly error: string }
  /** A header that cannot be one: message boundaries are lost. */
  | { readonly how: "malformed"; readonly problem: string }
  /** Too many came, or too many files are open here. */
  | { readonly how: "descriptors-lost" };

export interface ConnectionUser {
  /** A whole frame; its descriptors are the user's now, its payload is only until this returns. */
  frame(frame: Frame): void;
  /** The connection is of no more use, and closes when this returns if the user has not closed it. */
  ended(end: ConnectionEnd): void;
}

export class MessageConnection implements EventHandler {
  readonly #fd: number;
  readonly #loop: EventLoop;
  readonly #user: ConnectionUser;
  readonly #decoder = new FrameDecoder();
  readonly #outbox: Outbox;
  readonly #token: number;
  #isOpen = true;

  /** Takes ownership of `fd`, a connected socket, and watches it at once. */
  constructor(fd: number, loop: EventLoop, user: ConnectionUser) {
    this.#fd = fd;
    this.#loop = loop;
    this.#user = user;
    this.#outbox = new Outbox(fd);
    setNonBlocking(fd);
    this.#token = loop.watch(fd, EPOLLIN, this);
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** A part of an answer waits for room in the socket; no message is taken meanwhile. */
  get isHeldUp(): boolean {
    return !this.#outbox.isEmpty;
  }

  /** Sends an answer, or keeps what the socket does not take. Nothing once it is closed. */
  send(bytes: Uint8Array, fd?: number): void {
    if (!this.#isOpen) return;
    const result = fd === undefined ? this.#outbox.send(bytes) : this.#sendWith(fd, bytes);
    if (result < 0) this.#fail({ how: "unwritable", error: errnoName(-result) });
    else if (this.isHeldUp) this.#loop.modify(this.#fd, EPOLLOUT, this.#token);
  }

  /** A descriptor goes with the first byte, or not at all: there is room, since the front-end waits for each answer. */
  #sendWith(fd: number, bytes: Uint8Array): number {
    if (this.isHeldUp) return -errno.EAGAIN;
    const sent = sendMessage(this.#fd, bytes, [fd]);
    return sent < 0 ? sent : this.#outbox.send(bytes.subarray(sent));
  }

  /** Closes the socket, and descriptors that came with a message that is not whole. Idempotent; calls nobody. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#loop.unwatch(this.#fd, this.#token);
    for (const received of this.#decoder.releaseFds()) closeSync(received);
    closeSync(this.#fd);
  }

  onEvents(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#flush();
    if (this.#isOpen && (events & ~EPOLLOUT) !== 0) this.#read();
  }

  #flush(): void {
    const result = this.#outbox.flush();
    if (result < 0) this.#fail({ how: "unwritable", error: errnoName(-result) });
    else if (!this.isHeldUp) this.#loop.modify(this.#fd, EPOLLIN, this.#token);
  }

  #read(): void {
    let messages = 0;
    while (this.#isOpen && !this.isHeldUp && messages < MOST_MESSAGES) {
      if (!this.#receive()) return;
      const next = this.#decoder.next();
      if (next === undefined) continue;
      messages++;
      if (next.ok) this.#user.frame(next.value);
      else this.#fail({ how: "malformed", problem: next.error.message });
    }
  }

  /**
   * Reads exactly to the end of a header or payload, so that descriptors belong to their message whatever the sender
   * packed together. False if nothing is there, or the connection is over.
   */
  #receive(): boolean {
    const received = receiveMessage(this.#fd, this.#decoder.bytesWanted);
    const { result, bytes, descriptors } = received;
    if (result > 0 && !received.descriptorsLost) {
      this.#decoder.push(bytes, descriptors);
      return true;
    }
    if (result === -errno.EAGAIN) return false;
    if (result > 0) {
      this.#fail({ how: "descriptors-lost" });
    } else {
      const cut = this.#decoder.end()?.message;
      this.#fail(
        result === 0 ? { how: "closed", cut } : { how: "unreadable", error: errnoName(-result), cut },
      );
    }
    return false;
  }

  /** Closed after the user was told: whatever it gives back first, the front-end sees the end last. */
  #fail(end: ConnectionEnd): void {
    this.#user.ended(end);
    this.close();
  }
}
