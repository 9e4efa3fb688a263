/**
 * The back-end channel: the socket of SET_BACKEND_REQ_FD, on which MISS messages go out. Never blocks and never waits
 * for an answer: QEMU answers a MISS only after its UPDATE on the main socket was answered, so whoever waits here
 * deadlocks both. What comes in is read and dropped.
 * Must not know what is missing or why; iotlb-link.ts does.
 */

import { closeSync } from "node:fs";
import { EPOLLIN, EPOLLOUT } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import { receiveMessage } from "../linux/message-socket.js";
import { setNonBlocking } from "../linux/unix-socket.js";
import { Outbox } from "./outbox.js";

/** Reads of one wake-up. Our choice: a front-end that floods the channel must not hold up the rings. */
const MOST_READS = 16;

export class BackendChannel implements EventHandler {
  readonly #fd: number;
  readonly #loop: EventLoop;
  readonly #onClosed: (reason: string) => void;
  readonly #onWritable: () => void;
  readonly #outbox: Outbox;
  readonly #token: number;
  #isOpen = true;

  /** Takes ownership of `fd`. Throws a SystemCallError if it cannot be waited for; then `fd` stays the caller's. */
  constructor(
    fd: number,
    loop: EventLoop,
    on: { readonly closed: (reason: string) => void; readonly writable: () => void },
  ) {
    setNonBlocking(fd);
    this.#fd = fd;
    this.#loop = loop;
    this.#onClosed = on.closed;
    this.#onWritable = on.writable;
    this.#outbox = new Outbox(fd);
    this.#token = loop.watch(fd, EPOLLIN, this);
  }

  /** Whether a message would go out now, whole or in part. */
  get isReady(): boolean {
    return this.#isOpen && this.#outbox.isEmpty;
  }

  /** Sends messages of `messageBytes` each, of which a part may wait in the outbox. Call it only while `isReady`. */
  send(bytes: Uint8Array, messageBytes = bytes.length): void {
    const result = this.#outbox.send(bytes, messageBytes);
    if (result < 0) this.#fail(`cannot be written: ${errnoName(-result)}`);
    else if (!this.#outbox.isEmpty) this.#loop.modify(this.#fd, EPOLLIN | EPOLLOUT, this.#token);
  }

  /** Takes back what waits in the outbox, but for the rest of a message that was begun. */
  dropUnsent(): void {
    if (this.#outbox.dropUnsent() && this.isReady) this.#loop.modify(this.#fd, EPOLLIN, this.#token);
  }

  onEvents(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#flush();
    if (this.#isOpen && (events & ~EPOLLOUT) !== 0) this.#drain();
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#loop.unwatch(this.#fd, this.#token);
    closeSync(this.#fd);
  }

  #flush(): void {
    const result = this.#outbox.flush();
    if (result < 0) this.#fail(`cannot be written: ${errnoName(-result)}`);
    if (!this.isReady) return;
    this.#loop.modify(this.#fd, EPOLLIN, this.#token);
    this.#onWritable();
  }

  #drain(): void {
    for (let reads = 0; reads < MOST_READS && this.#isOpen; reads++) {
      const { result, descriptors } = receiveMessage(this.#fd);
      for (const fd of descriptors) closeSync(fd);
      if (result === -errno.EAGAIN) return;
      if (result === 0) this.#fail("was closed by the front-end");
      else if (result < 0) this.#fail(`cannot be read: ${errnoName(-result)}`);
    }
  }

  #fail(what: string): void {
    this.close();
    this.#onClosed(`the back-end channel ${what}`);
  }
}
