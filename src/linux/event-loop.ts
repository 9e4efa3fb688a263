/**
 * One thread's event loop over one epoll instance: descriptors with handlers, timers, and work to do after the
 * events of a wake-up. Node's own event loop cannot watch a foreign eventfd; a thread that runs this loop blocks in
 * epoll_wait instead. Hot path: dispatch allocates nothing.
 */
import { closeSync } from "node:fs";
import { closeDescriptor } from "./close.js";
import { Epoll } from "./epoll.js";
import { SystemCallError } from "./errors.js";
import { createEventfd, drainEventfd } from "./eventfd.js";
import { Timer, type TimerHandler, Timers } from "./timers.js";

/** Called with the epoll event bits of one wake-up. */
export interface EventHandler {
  onEvents(events: number): void;
}

// A token is a slot number, and epoll keeps that slot's generation beside it: events of a descriptor that is not watched
// any more (and whose slot is perhaps used again) are recognised and dropped.
const GENERATION_MASK = 0x3fff_ffff;

const NOBODY: EventHandler = { onEvents() {} };

export class EventLoop {
  readonly timers: Timers;
  /** The eventfd that ends a blocking wait; any thread may write it. */
  readonly wakeFd: number;
  readonly #ownsWakeFd: boolean;
  readonly #epoll = new Epoll();
  readonly #handlers: EventHandler[] = [];
  readonly #generations: number[] = [];
  readonly #freeSlots: number[] = [];
  /** Descriptors that are closed at the end of the turn. */
  readonly #leaving: number[] = [];
  readonly #afterEvents: (() => void)[] = [];
  /** Which of them runs now; kept so that one may remove itself, or another, meanwhile. */
  #afterAt = -1;
  #running = false;
  #turnRequested = false;

  /**
   * `wakeFd` is given by whoever wants to write it for longer than this loop lives; it stays theirs. `timers` is
   * given by a test that has a clock of its own.
   */
  constructor(wakeFd?: number, timers: Timers = new Timers()) {
    this.timers = timers;
    this.#ownsWakeFd = wakeFd === undefined;
    this.wakeFd = wakeFd ?? createEventfd();
  }

  /**
   * Watches `fd` for `events` (EPOLL* bits; level-triggered unless EPOLLET is among them) and returns the token
   * that `modify` and `unwatch` take.
   */
  watch(fd: number, events: number, handler: EventHandler): number {
    const token = this.tryWatch(fd, events, handler);
    if (token < 0) throw new SystemCallError("epoll_ctl", -token, `fd ${fd}`);
    return token;
  }

  /**
   * As `watch`, for descriptors whose number somebody outside decides: `-errno` instead of an exception when the
   * system refuses (ENOSPC at the user's limit of watches, ENOMEM).
   */
  tryWatch(fd: number, events: number, handler: EventHandler): number {
    const slot = this.#freeSlots.pop() ?? this.#handlers.length;
    const generation = this.#generations[slot] ?? 0;
    this.#handlers[slot] = handler;
    this.#generations[slot] = generation;
    const result = this.#epoll.tryAdd(fd, events, slot, generation);
    if (result === 0) return slot;
    this.#release(slot);
    return result;
  }

  /** Gives a watched descriptor another handler. What the old one was already told is not told again. */
  redirect(token: number, handler: EventHandler): void {
    this.#handlers[token] = handler;
  }

  modify(fd: number, events: number, token: number): void {
    this.#epoll.modify(fd, events, token, this.#generations[token]);
  }

  /** Stops watching; call it before closing `fd`. The handler is not called again, not even for events already fetched. */
  unwatch(fd: number, token: number): void {
    this.#epoll.remove(fd);
    this.#release(token);
  }

  /**
   * Stops watching `fd` at once and closes it at the end of the turn: closing a socket takes microseconds and may wake a
   * thread, so whoever waits for an answer comes first. Only for an edge-triggered descriptor that nobody else holds:
   * closing the last one of a socket takes it out of epoll by itself (epoll(7), "Questions and answers", 6), which saves
   * a call. Should somebody hold it a moment longer, a child process that is just being started, what epoll still says of
   * it is dropped as stale.
   */
  unwatchAndClose(fd: number, token: number): void {
    this.#release(token);
    this.#leaving.push(fd);
  }

  /**
   * Closes now what waits for the end of the turn: for whoever lacks a descriptor. False if nothing does. Each is taken out
   * before it is closed: should that fail, no number is closed twice, which could be another's by then.
   */
  closeLeaving(): boolean {
    if (this.#leaving.length === 0) return false;
    for (let fd = this.#leaving.pop(); fd !== undefined; fd = this.#leaving.pop()) closeDescriptor(fd);
    return true;
  }

  #release(slot: number): void {
    this.#handlers[slot] = NOBODY;
    this.#generations[slot] = (this.#generations[slot] + 1) & GENERATION_MASK;
    this.#freeSlots.push(slot);
  }

  /** Runs `callback` once after delay; see `Timers`. */
  setTimer(delayMs: number, callback: () => void): Timer {
    return this.timers.add(delayMs, callback);
  }

  /** A timer that is started, and started again, later. */
  timerFor(handler: TimerHandler): Timer {
    return new Timer(this.timers, handler);
  }

  /** Makes the next wait return at once: somebody stopped working only to let the others have their turn. */
  requestTurn(): void {
    this.#turnRequested = true;
  }

  /** Adds work that runs after the events of every wake-up, in the order added. */
  afterEvents(callback: () => void): void {
    this.#afterEvents.push(callback);
  }

  removeAfterEvents(callback: () => void): void {
    const at = this.#afterEvents.indexOf(callback);
    if (at < 0) return;
    this.#afterEvents.splice(at, 1);
    if (at <= this.#afterAt) this.#afterAt--;
  }

  /** Dispatches until `stop` is called. `onWake` runs when another thread wrote `wakeFd`. */
  run(onWake: () => void): void {
    const { wakeFd } = this;
    const token = this.watch(wakeFd, 1, {
      onEvents() {
        drainEventfd(wakeFd);
        onWake();
      },
    });
    this.#running = true;
    while (this.#running) this.turn(this.timers.msUntilNext());
    this.unwatch(wakeFd, token);
  }

  /**
   * One wait of at most `timeoutMs` (-1: until something happens), its events, due timers, the work after events, and
   * the closing of descriptors.
   * False if there was no event, no due timer and no turn requested, before or meanwhile: the loop is idle.
   */
  turn(timeoutMs: number): boolean {
    const wasRequested = this.#turnRequested;
    const count = this.#epoll.wait(wasRequested ? 0 : timeoutMs);
    this.#turnRequested = false;
    for (let index = 0; index < count; index++) {
      const slot = this.#epoll.token(index);
      if (this.#generations[slot] === this.#epoll.generation(index))
        this.#handlers[slot].onEvents(this.#epoll.events(index));
    }
    const timersRun = this.timers.runDue();
    for (this.#afterAt = 0; this.#afterAt < this.#afterEvents.length; this.#afterAt++) {
      this.#afterEvents[this.#afterAt]();
    }
    this.#afterAt = -1;
    this.closeLeaving();
    return wasRequested || count > 0 || timersRun > 0 || this.#turnRequested;
  }

  stop(): void {
    this.#running = false;
  }

  /** Frees the loop's own descriptors. Descriptors that are watched stay their owners'. */
  close(): void {
    this.closeLeaving();
    this.#epoll.close();
    if (this.#ownsWakeFd) closeSync(this.wakeFd);
  }
}
