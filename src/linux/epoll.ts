/**
 * One epoll instance with numeric tokens. Hot path: `wait` allocates nothing.
 *
 *     struct epoll_event { uint32_t events; epoll_data_t data; };   packed to 12 bytes on x86-64, 16 elsewhere
 */
import { closeSync } from "node:fs";
import { arch } from "node:process";
import { checked, errno, orErrno } from "./errors.js";
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
const EVENT_BYTES = arch === "x64" || arch === "ia32" ? 12 : 16;
const DATA_OFFSET = EVENT_BYTES - 8;
const MOST_EVENTS = 256;

export class Epoll {
  readonly #fd: number;
  readonly #events = new Scratch(MOST_EVENTS * EVENT_BYTES);
  readonly #argument = new Scratch(EVENT_BYTES);

  constructor() {
    this.#fd = checked(libcCalls.epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  }

  /** Watches `fd`. `token` (below 2^32) comes back with each of its events. */
  add(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_ADD, fd, events, token);
  }

  modify(fd: number, events: number, token: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events, token);
  }

  /** Stops watching `fd`. Events that `wait` has already returned may still name its token. */
  remove(fd: number): void {
    this.#control(EPOLL_CTL_DEL, fd, 0, 0);
  }

  #control(operation: number, fd: number, events: number, token: number): void {
    const data = this.#argument.data;
    data.setUint32(0, events >>> 0, true);
    data.setUint32(DATA_OFFSET, token, true);
    data.setUint32(DATA_OFFSET + 4, 0, true);
    checked(libcCalls.epoll_ctl(this.#fd, operation, fd, this.#argument.address), "epoll_ctl", `fd ${fd}`);
  }

  /** Waits for events: their number, 0 after `timeoutMs` (-1: never) or a signal. Read them with `token` and `events`. */
  wait(timeoutMs: number): number {
    const count = orErrno(libcCalls.epoll_wait(this.#fd, this.#events.address, MOST_EVENTS, timeoutMs));
    if (count === -errno.EINTR) return 0;
    return checked(count, "epoll_wait");
  }

  token(index: number): number {
    return this.#events.data.getUint32(index * EVENT_BYTES + DATA_OFFSET, true);
  }

  events(index: number): number {
    return this.#events.data.getUint32(index * EVENT_BYTES, true);
  }

  close(): void {
    closeSync(this.#fd);
    this.#events.release();
    this.#argument.release();
  }
}
