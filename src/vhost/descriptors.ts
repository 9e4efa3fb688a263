/*
 * Descriptors that a front-end passes: each has one owner and is closed exactly once. Knows what an eventfd has to
 * be for an event loop to be safe with it; knows no messages.
 */

import { closeSync, fstatSync } from "node:fs";
import { setNonBlocking } from "../linux/unix-socket.js";

const FILE_TYPE_MASK = 0o170000;

/** The descriptors of one message, until somebody takes them; `closeRest` closes those that nobody took. */
export class ReceivedFds {
  readonly #fds: number[];

  constructor(fds: readonly number[]) {
    this.#fds = [...fds];
  }

  /** Hands the next descriptor to the caller, who closes it from now on; undefined if there is none left. */
  take(): number | undefined {
    return this.#fds.shift();
  }

  /** Hands over the next descriptor as a non-blocking eventfd, or says why it cannot (and keeps it). */
  takeEventfd(): number | string {
    const fd = this.#fds[0];
    if (fd === undefined) return "no descriptor came with it";
    const problem = prepareEventfd(fd);
    if (problem !== undefined) return problem;
    this.#fds.shift();
    return fd;
  }

  /** Hands over all that are left. */
  takeAll(): number[] {
    return this.#fds.splice(0);
  }

  closeRest(): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }
}

/** A place for one owned descriptor; -1 when empty. */
export class FdSlot {
  #fd = -1;

  get fd(): number {
    return this.#fd;
  }

  /** Takes ownership of `fd` and closes the one that was here. */
  put(fd: number): void {
    const before = this.#fd;
    this.#fd = fd;
    if (before >= 0) closeSync(before);
  }

  close(): void {
    this.put(-1);
  }
}

/**
 * Makes a received eventfd non-blocking, or says why it is none. A blocking one would stop the whole loop at the
 * first read that finds it empty, and a regular file cannot be waited for.
 */
function prepareEventfd(fd: number): string | undefined {
  // Eventfds are anonymous inodes: the only kind of file whose mode has no type (Linux fs/anon_inodes.c).
  if ((fstatSync(fd).mode & FILE_TYPE_MASK) !== 0) return "the descriptor that came with it is no eventfd";
  setNonBlocking(fd);
  return undefined;
}
