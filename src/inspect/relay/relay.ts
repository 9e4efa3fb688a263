/**
 * The interposer: listens where a front-end is told to connect, connects to the back-end for each one that comes, and
 * joins the two. A back-end that is not there yet is waited for; the front-end notices only that it takes longer.
 */
import { closeSync } from "node:fs";
import { EPOLLIN } from "../../linux/epoll.js";
import { errno, errnoName } from "../../linux/errors.js";
import type { EventLoop } from "../../linux/event-loop.js";
import type { Timer } from "../../linux/timers.js";
import { acceptUnix, connectUnix, peekByte, tryCreateSocket } from "../../linux/unix-socket.js";
import type { FrameObserver } from "../frame.js";
import { type Clock, wallClock } from "./clock.js";
import { RelaySession } from "./relay-session.js";
import type { MakeRewriter } from "./rewriter.js";
import type { RelayTap } from "./tap.js";

/** Front-ends at a time. Our choice: a back-end program serves one, rarely a handful. */
const MOST_SESSIONS = 64;
const RETRY_MS = 100;

export interface RelayOptions {
  /** A listening socket. It stays the caller's. */
  readonly listener: number;
  readonly connectPath: string;
  /** How long a back-end that is not there is waited for. */
  readonly connectTimeoutMs: number;
  /** Who connects to the listener: the front-end, as is usual, or the back-end. */
  readonly comes: "front-end" | "back-end";
  /** Nobody but the first to come is accepted. */
  readonly once: boolean;
  readonly loop: EventLoop;
  readonly observer: FrameObserver;
  readonly makeRewriter?: MakeRewriter | undefined;
  readonly tap?: RelayTap | undefined;
  /** A session is over. */
  readonly onEnd?: (() => void) | undefined;
}

/** Waits until the other end can be connected to. */
class Waiting {
  timer: Timer | undefined;

  constructor(
    readonly session: number,
    readonly fd: number,
    public leftMs: number,
  ) {}
}

export class Relay {
  readonly #options: RelayOptions;
  readonly #clock: Clock = wallClock();
  readonly #sessions = new Set<RelaySession>();
  readonly #waiting = new Set<Waiting>();
  readonly #token: number;
  #count = 0;
  #isPaused = false;
  #rest: Timer | undefined;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#token = options.loop.watch(options.listener, EPOLLIN, { onEvents: () => this.#accept() });
  }

  /** Takes nothing in until `resume`: whoever observes has fallen behind. */
  pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    for (const session of this.#sessions) session.pause();
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    for (const session of this.#sessions) session.resume();
  }

  /** Ends every session; the observer hears of each. */
  close(reason: string): void {
    this.#rest?.cancel();
    this.#options.loop.unwatch(this.#options.listener, this.#token);
    for (const waiting of [...this.#waiting]) this.#giveUp(waiting, "observer", reason);
    for (const session of [...this.#sessions]) session.close(reason);
  }

  #accept(): void {
    const fd = acceptUnix(this.#options.listener);
    if (fd < 0) {
      if (fd !== -errno.EAGAIN) this.#restAccepting();
      return;
    }
    const session = ++this.#count;
    const { observer, connectTimeoutMs, once, loop, listener } = this.#options;
    if (once) loop.modify(listener, 0, this.#token);
    observer.begun({ session, timeNs: this.#clock.nowNs(), transport: "vhost-user" });
    const waiting = new Waiting(session, fd, connectTimeoutMs);
    this.#waiting.add(waiting);
    if (this.#sessions.size + this.#waiting.size > MOST_SESSIONS)
      this.#giveUp(waiting, "observer", `more than ${MOST_SESSIONS} sessions at a time`);
    else this.#connect(waiting);
  }

  /** Nobody can be accepted for want of descriptors: who knocks goes on waiting, and would be told of without end. */
  #restAccepting(): void {
    const { loop, listener } = this.#options;
    loop.modify(listener, 0, this.#token);
    this.#rest = loop.setTimer(RETRY_MS, () => loop.modify(listener, EPOLLIN, this.#token));
  }

  #connect(waiting: Waiting): void {
    waiting.timer = undefined;
    const { connectPath } = this.#options;
    const other = tryCreateSocket();
    const result = other < 0 ? other : connectUnix(other, connectPath);
    if (result === 0) {
      this.#join(waiting, other);
      return;
    }
    if (other >= 0) closeSync(other);
    const comes = this.#options.comes;
    if (peekByte(waiting.fd) === 0) {
      this.#giveUp(
        waiting,
        comes,
        `the ${comes} closed the connection before there was anybody to connect it to`,
      );
      return;
    }
    const isThereLater = [errno.ECONNREFUSED, errno.ENOENT, errno.EAGAIN].includes(-result);
    const problem = `cannot connect to ${connectPath}: ${errnoName(-result)}`;
    if (!isThereLater || waiting.leftMs <= 0) {
      this.#giveUp(waiting, comes === "front-end" ? "back-end" : "front-end", problem);
      return;
    }
    if (waiting.leftMs === this.#options.connectTimeoutMs) this.#remark(waiting, `${problem}; trying again`);
    waiting.leftMs -= RETRY_MS;
    waiting.timer = this.#options.loop.setTimer(RETRY_MS, () => this.#connect(waiting));
  }

  #join(waiting: Waiting, other: number): void {
    this.#waiting.delete(waiting);
    const { loop, observer, makeRewriter, comes, tap } = this.#options;
    const [front, back] = comes === "front-end" ? [waiting.fd, other] : [other, waiting.fd];
    const session: RelaySession = new RelaySession(front, back, {
      session: waiting.session,
      loop,
      clock: this.#clock,
      observer,
      makeRewriter,
      tap,
      finished: () => {
        this.#sessions.delete(session);
        this.#options.onEnd?.();
      },
    });
    this.#sessions.add(session);
    if (this.#isPaused) session.pause();
  }

  #giveUp(waiting: Waiting, by: "front-end" | "back-end" | "observer", reason: string): void {
    waiting.timer?.cancel();
    this.#waiting.delete(waiting);
    closeSync(waiting.fd);
    this.#options.tap?.ended(waiting.session);
    this.#options.observer.ended(waiting.session, { timeNs: this.#clock.nowNs(), by, reason });
    this.#options.onEnd?.();
  }

  #remark({ session }: Waiting, text: string): void {
    this.#options.observer.remark(session, { timeNs: this.#clock.nowNs(), text, isGap: false });
  }
}
