/**
 * Listens in on the back-end channel: the session writes its questions to one end of a pair, they go on to the
 * front-end from here, and its answers are taken here. Knows frames, not what they are for.
 */
import { closeSync } from "node:fs";
import { EPOLLIN } from "../linux/epoll.js";
import { errno } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import { receiveMessage, sendMessage } from "../linux/message-socket.js";
import { setNonBlocking, socketPair } from "../linux/unix-socket.js";
import { decodeMessage, FrameDecoder, type Message } from "../vhost/wire/index.js";

export interface ChannelListener {
  /** A question of the back-end, or the front-end's answer to one. */
  passed(from: "front-end" | "back-end", message: Message): void;
  closed(): void;
}

export class ChannelTap {
  /** The end that the session takes for the front-end's; whoever gets it owns it. */
  readonly sessionFd: number;
  readonly #near: number;
  readonly #fd: number;
  readonly #loop: EventLoop;
  readonly #tokens: readonly [number, number];
  readonly #questions = new FrameDecoder();
  readonly #answers = new FrameDecoder();
  #isOpen = true;

  /** Takes ownership of `fd`, the descriptor of SET_BACKEND_REQ_FD. Throws SystemCallError if it cannot be watched. */
  constructor(
    fd: number,
    loop: EventLoop,
    private readonly listener: ChannelListener,
  ) {
    setNonBlocking(fd);
    this.#fd = fd;
    this.#loop = loop;
    const token = loop.watch(fd, EPOLLIN, { onEvents: () => this.#take(this.#fd, "front-end") });
    const [near, sessionFd] = socketPair();
    this.#near = near;
    this.sessionFd = sessionFd;
    this.#tokens = [token, loop.watch(near, EPOLLIN, { onEvents: () => this.#take(this.#near, "back-end") })];
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Asks something of our own. */
  send(bytes: Uint8Array): void {
    this.#note("back-end", bytes);
    this.#forward(bytes);
  }

  #take(fd: number, from: "front-end" | "back-end"): void {
    while (this.#isOpen) {
      const { result, bytes, descriptors } = receiveMessage(fd);
      for (const descriptor of descriptors) closeSync(descriptor);
      if (result === -errno.EAGAIN) return;
      if (result <= 0) {
        // The session closes its end only when it ends; then the tap is closed anyway.
        this.close();
        if (from === "front-end") this.listener.closed();
        return;
      }
      this.#note(from, bytes);
      if (from === "back-end") this.#forward(bytes);
    }
  }

  /** A front-end that does not read what it is asked loses questions; nobody waits for it. */
  #forward(bytes: Uint8Array): void {
    sendMessage(this.#fd, bytes);
  }

  #note(from: "front-end" | "back-end", bytes: Uint8Array): void {
    const decoder = from === "back-end" ? this.#questions : this.#answers;
    if (decoder.failed) return;
    decoder.push(bytes.slice());
    for (let next = decoder.next(); next?.ok; next = decoder.next()) {
      const decoded = decodeMessage("backend", next.value);
      if (decoded.ok) this.listener.passed(from, decoded.value);
    }
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#loop.unwatch(this.#fd, this.#tokens[0]);
    this.#loop.unwatch(this.#near, this.#tokens[1]);
    closeSync(this.#fd);
    closeSync(this.#near);
  }
}
