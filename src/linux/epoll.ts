/**
 * One epoll instance with numeric tokens. Hot path: nothing but `close` allocates.
 *
 *     struct epoll_event { uint32_t events; epoll_data_t data; };   packed to 12 bytes on x86-64, 16 elsewhere
 */
import { closeSync } from "node:fs";
import { arch } from "node:process";
import { checked, errno, orErrno, SystemCallError } from "./errors.js";
import { libcCalls } from "./libc.js";
import { Scratch } from "./scratch.js";

export const EPOLLIN = 0x001;
export const EPOLLOUT = 0x004;
export const EPOLLERR = 0x008;
export const EPOLLHUP = 0x010;
export const EPOLLRDHUP = 0x2000;
/** Edge-triggered: report changes, not states. */
export const EPOLLET = 0x8000_0000 | 0;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
/** In words of 32 bits: `data` is the last two of an event. */
const EVENT_WORDS = arch === "x64" || arch === "ia32" ? 3 : 4;
const DATA_WORD = EVENT_WORDS - 2;
const EVENT_BYTES = 4 * EVENT_WORDS;
const MOST_EVENTS = 256;

export class Epoll {
  readonly #fd: number;
  readonly #events = new Scratch(MOST_EVENTS * EVENT_BYTES);
  readonly #argument = new Scratch(EVENT_BYTES);

  constructor() {
    this.#fd = checked(libcCalls.epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  }

  /** Watches `fd`. Both halves of `data` (below 2^32) come back with each of its events: `token` and `generation`. */
  add(fd: number, events: number, token: number, generation = 0): void {
    const result = this.tryAdd(fd, events, token, generation);
    if (result < 0) throw new SystemCallError("epoll_ctl", -result, `fd ${fd}`);
  }

  /** As `add`: 0, or `-errno`. */
  tryAdd(fd: number, events: number, token: number, generation = 0): number {
    return this.#control(EPOLL_CTL_ADD, fd, events, token, generation);
  }

  modify(fd: number, events: number, token: number, generation = 0): void {
    const result = this.#control(EPOLL_CTL_MOD, fd, events, token, generation);
    if (result < 0) throw new SystemCallError("epoll_ctl", -result, `fd ${fd}`);
  }

  /** Stops watching `fd`. Events that `wait` has already returned may still name its token. */
  remove(fd: number): void {
    const result = this.#control(EPOLL_CTL_DEL, fd, 0, 0, 0);
    if (result < 0) throw new SystemCallError("epoll_ctl", -result, `fd ${fd}`);
  }

  #control(operation: number, fd: number, events: number, token: number, generation: number): number {
    const words = this.#argument.u32;
    words[0] = events;
    words[DATA_WORD] = token;
    words[DATA_WORD + 1] = generation;
    return orErrno(libcCalls.epoll_ctl(this.#fd, operation, fd, this.#argument.address));
  }

  /** Waits for events: their number, 0 after `timeoutMs` (-1: never) or a signal. Read them with `token` and `events`. */
  wait(timeoutMs: number): number {
    const count = orErrno(libcCalls.epoll_wait(this.#fd, this.#events.address, MOST_EVENTS, timeoutMs));
    if (count === -errno.EINTR) return 0;
    return checked(count, "epoll_wait");
  }

  token(index: number): number {
    return this.#events.u32[index * EVENT_WORDS + DATA_WORD];
  }

  generation(index: number): number {
    return this.#events.u32[index * EVENT_WORDS + DATA_WORD + 1];
  }

  events(index: number): number {
    return this.#events.u32[index * EVENT_WORDS];
  }

  close(): void {
    closeSync(this.#fd);
    this.#events.release();
    this.#argument.release();
  }
}
