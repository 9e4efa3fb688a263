/**
 * Timers of one event loop. A device uses a handful of distinct delays for thousands of connections, so timers of
 * the same delay form a queue that is in order of deadline by itself: adding and cancelling take constant time.
 */
import { LinkedList, Place } from "./linked-list.js";

/** A pending timer. `cancel` is idempotent, also after it ran. */
export interface Timer {
  cancel(): void;
}

class PendingTimer implements Timer {
  /** In the queue of its delay; in none once it ran or was cancelled. */
  readonly place = new Place<PendingTimer>(this);

  constructor(
    readonly deadlineMs: number,
    readonly callback: () => void,
  ) {}

  cancel(): void {
    this.place.leave();
  }
}

export class Timers {
  readonly #queues = new Map<number, LinkedList<PendingTimer>>();
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
    let queue = this.#queues.get(delayMs);
    if (queue === undefined) {
      queue = new LinkedList();
      this.#queues.set(delayMs, queue);
    }
    const timer = new PendingTimer(this.#now() + delayMs, callback);
    queue.append(timer.place);
    return timer;
  }

  /** Whole milliseconds until the next deadline, rounded up; 0 if one is due, -1 if there is none. */
  msUntilNext(): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (const [delayMs, queue] of this.#queues) {
      if (queue.first === undefined) this.#queues.delete(delayMs);
      else earliest = Math.min(earliest, queue.first.owner.deadlineMs);
    }
    if (earliest === Number.POSITIVE_INFINITY) return -1;
    return Math.max(0, Math.ceil(earliest - this.#now()));
  }

  /** Runs every timer that is due now, and returns how many. Timers added by a callback wait for the next call. */
  runDue(): number {
    if (this.#queues.size === 0) return 0;
    const now = this.#now();
    const due: PendingTimer[] = [];
    for (const queue of this.#queues.values()) {
      for (let place = queue.first; place !== undefined && place.owner.deadlineMs <= now; place = place.next)
        due.push(place.owner);
    }
    due.sort((a, b) => a.deadlineMs - b.deadlineMs);
    let run = 0;
    for (const timer of due) {
      // A callback may have cancelled one that was due together with it.
      if (timer.place.list === undefined) continue;
      timer.place.leave();
      timer.callback();
      run++;
    }
    return run;
  }
}
