/**
 * Accepts clients from a listening socket of the host, with pauses when this process can open no more descriptors. Must not
 * know what becomes of them.
 */
import { closeSync } from "node:fs";
import { closeDescriptor } from "../linux/close.js";
import { duplicate } from "../linux/duplicate.js";
import { EPOLLIN } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import type { Timer } from "../linux/timers.js";
import { acceptUnix } from "../linux/unix-socket.js";

/** How long accepting pauses when this process can open no more descriptors. */
const ACCEPT_PAUSE_MS = 100;
/** Clients accepted in one go, so that a storm of them does not hold up the data plane. */
const MOST_ACCEPTED_AT_ONCE = 64;

export class Acceptor implements EventHandler {
  readonly #token: number;
  #pause: Timer | undefined;

  constructor(
    private readonly options: {
      readonly loop: EventLoop;
      /** Listening and non-blocking; owned by this object from now on. */
      readonly fd: number;
      /** Descriptors from this number on are left to others, as far as there are lower ones. */
      readonly descriptorCeiling: number;
      /** Owns the descriptor from now on. */
      accepted(fd: number): void;
      /** Nobody could be accepted. */
      failed(reason: string): void;
    },
  ) {
    this.#token = options.loop.watch(options.fd, EPOLLIN, this);
  }

  onEvents(): void {
    for (let accepted = 0; accepted < MOST_ACCEPTED_AT_ONCE; accepted++) {
      const fd = this.#accept();
      if (fd === -errno.EAGAIN || fd === -errno.EINTR || fd === -errno.ECONNABORTED) return;
      if (fd < 0) {
        this.#pauseAccepting(-fd);
        return;
      }
      this.options.accepted(fd);
    }
  }

  /** Connections that have ended in this turn may still have their descriptors: then they are closed, for the client. */
  #accept(): number {
    const { loop, fd: listener, descriptorCeiling } = this.options;
    let fd = acceptUnix(listener);
    if (fd === -errno.EMFILE && loop.closeLeaving()) fd = acceptUnix(listener);
    if (fd < descriptorCeiling || !loop.closeLeaving()) return fd;
    const lower = duplicate(fd);
    closeDescriptor(fd);
    return lower;
  }

  /** Out of descriptors or memory: the listener stays readable, so looking away for a moment is all that helps. */
  #pauseAccepting(error: number): void {
    const { loop, fd, failed } = this.options;
    failed(`accepting failed with ${errnoName(error)}; trying again in ${ACCEPT_PAUSE_MS} ms`);
    loop.modify(fd, 0, this.#token);
    this.#pause = loop.setTimer(ACCEPT_PAUSE_MS, () => {
      this.#pause = undefined;
      loop.modify(fd, EPOLLIN, this.#token);
    });
  }

  close(): void {
    this.#pause?.cancel();
    this.options.loop.unwatch(this.options.fd, this.#token);
    closeSync(this.options.fd);
  }
}
