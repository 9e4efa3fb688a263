/**
 * Watches an eventfd that others signal and read, and takes nothing from it: each signal is an edge. What is read by its
 * owner before this thread wakes leaves no edge behind, so an edge is a reason to look, and none is no reason not to.
 */
import { closeSync } from "node:fs";
import { EPOLLET, EPOLLIN } from "../../linux/epoll.js";
import type { EventLoop } from "../../linux/event-loop.js";

export class Bell {
  readonly #loop: EventLoop;
  #fd: number | undefined;
  #token = -1;

  constructor(
    loop: EventLoop,
    readonly rang: () => void,
  ) {
    this.#loop = loop;
  }

  /** Watches this file instead of the one before it. Takes ownership; one that cannot be watched is closed. */
  take(fd: number): void {
    this.close();
    const token = this.#loop.tryWatch(fd, EPOLLIN | EPOLLET, { onEvents: () => this.rang() });
    if (token < 0) closeSync(fd);
    else {
      this.#fd = fd;
      this.#token = token;
    }
  }

  close(): void {
    if (this.#fd === undefined) return;
    this.#loop.unwatch(this.#fd, this.#token);
    closeSync(this.#fd);
    this.#fd = undefined;
  }
}
