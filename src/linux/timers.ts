/**
 * Timers of one event loop. A device uses a handful of distinct delays for thousands of connections, so timers of
 * the same delay form a queue that is in order of deadline by itself: starting one takes a look at each delay in use,
 * cancelling constant time, and neither allocates but for a delay that is new.
 */
import { performance } from "node:perf_hooks";
import { LinkedList, Place } from "./linked-list.js";

/** Told when its timer's time has come. */
export interface TimerHandler {
  onTimer(): void;
}

/** Runs its handler once each time that it is started. `cancel` is idempotent, also after it ran. */
export class Timer {
  /** In the queue of its delay; in none while it is not running. */
  readonly place = new Place<Timer>(this);
  deadlineMs = 0;

  constructor(
    private readonly timers: Timers,
    readonly handler: TimerHandler,
  ) {}

  /** Starts it, `delayMs` from now at the earliest, in place of a start before. */
  start(delayMs: number): void {
    this.place.leave();
    this.timers.enqueue(this, delayMs);
  }

  get isRunning(): boolean {
    return this.place.list !== undefined;
  }

  cancel(): void {
    this.place.leave();
  }
}

/** All timers of one delay. */
class Queue extends LinkedList<Timer> {
  constructor(public delayMs: number) {
    super();
  }
}

export class Timers {
  readonly #queues: Queue[] = [];
  readonly #now: () => number;

  /** `now` is a monotonic clock in milliseconds: wall-clock jumps do not matter. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Milliseconds of the clock that deadlines are on. */
  now(): number {
    return this.#now();
  }

  /** Runs `callback` once, `delayMs` from now at the earliest. */
  add(delayMs: number, callback: () => void): Timer {
    const timer = new Timer(this, { onTimer: callback });
    timer.start(delayMs);
    return timer;
  }

  /** `Timer.start` comes here: a timer that is not running. */
  enqueue(timer: Timer, delayMs: number): void {
    timer.deadlineMs = this.#now() + delayMs;
    this.#queueOf(delayMs).append(timer.place);
  }

  /** The queue of this delay; an empty one serves the next delay that has none, so that there are few. */
  #queueOf(delayMs: number): Queue {
    let empty: Queue | undefined;
    for (const queue of this.#queues) {
      if (queue.delayMs === delayMs) return queue;
      if (queue.first === undefined) empty = queue;
    }
    if (empty !== undefined) {
      empty.delayMs = delayMs;
      return empty;
    }
    const queue = new Queue(delayMs);
    this.#queues.push(queue);
    return queue;
  }

  /** The first deadline of all; infinite if there is no timer. */
  #earliestMs(): number {
    let earliestMs = Number.POSITIVE_INFINITY;
    for (const { first } of this.#queues)
      if (first !== undefined) earliestMs = Math.min(earliestMs, first.owner.deadlineMs);
    return earliestMs;
  }

  /** Whole milliseconds until the next deadline, rounded up; 0 if one is due, -1 if there is none. */
  msUntilNext(): number {
    const earliestMs = this.#earliestMs();
    if (earliestMs === Number.POSITIVE_INFINITY) return -1;
    return Math.max(0, Math.ceil(earliestMs - this.#now()));
  }

  /** Runs every timer that is due now, and returns how many. Timers that a handler starts wait for the next call. */
  runDue(): number {
    const earliestMs = this.#earliestMs();
    if (earliestMs === Number.POSITIVE_INFINITY) return 0;
    const nowMs = this.#now();
    return earliestMs <= nowMs ? this.#run(nowMs) : 0;
  }

  #run(nowMs: number): number {
    const due: Timer[] = [];
    for (const queue of this.#queues) {
      for (
        let place = queue.first;
        place !== undefined && place.owner.deadlineMs <= nowMs;
        place = place.next
      )
        due.push(place.owner);
    }
    due.sort((a, b) => a.deadlineMs - b.deadlineMs);
    let run = 0;
    for (const timer of due) {
      // A handler may have cancelled, or started anew, one that was due together with it.
      if (!timer.isRunning || timer.deadlineMs > nowMs) continue;
      timer.cancel();
      timer.handler.onTimer();
      run++;
    }
    return run;
  }
}
