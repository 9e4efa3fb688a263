/**
 * Timers of one event loop. A device uses a handful of distinct delays for thousands of connections, so timers of
 * the same delay form a queue that is in order of deadline by itself: adding and cancelling take constant time.
 */

/** A pending timer. `cancel` is idempotent, also after it ran. */
export interface Timer {
  cancel(): void;
}

class Node implements Timer {
  previous: Node | undefined;
  next: Node | undefined;
  queue: Queue | undefined;

  constructor(
    readonly deadlineMs: number,
    readonly callback: () => void,
  ) {}

  cancel(): void {
    this.queue?.remove(this);
  }
}

class Queue {
  first: Node | undefined;
  #last: Node | undefined;

  append(node: Node): void {
    node.queue = this;
    node.previous = this.#last;
    if (this.#last === undefined) this.first = node;
    else this.#last.next = node;
    this.#last = node;
  }

  remove(node: Node): void {
    if (node.previous === undefined) this.first = node.next;
    else node.previous.next = node.next;
    if (node.next === undefined) this.#last = node.previous;
    else node.next.previous = node.previous;
    node.previous = undefined;
    node.next = undefined;
    node.queue = undefined;
  }
}

export class Timers {
  readonly #queues = new Map<number, Queue>();
  readonly #now: () => number;

  /** `now` is a monotonic clock in milliseconds: wall-clock jumps do not matter. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Runs `callback` once, `delayMs` from now at the earliest. */
  add(delayMs: number, callback: () => void): Timer {
    let queue = this.#queues.get(delayMs);
    if (queue === undefined) {
      queue = new Queue();
      this.#queues.set(delayMs, queue);
    }
    const node = new Node(this.#now() + delayMs, callback);
    queue.append(node);
    return node;
  }

  /** Whole milliseconds until the next deadline, rounded up; 0 if one is due, -1 if there is none. */
  msUntilNext(): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (const [delayMs, queue] of this.#queues) {
      if (queue.first === undefined) this.#queues.delete(delayMs);
      else if (queue.first.deadlineMs < earliest) earliest = queue.first.deadlineMs;
    }
    if (earliest === Number.POSITIVE_INFINITY) return -1;
    return Math.max(0, Math.ceil(earliest - this.#now()));
  }

  /** Runs every timer that is due now. Timers added by a callback wait for the next call. */
  runDue(): void {
    if (this.#queues.size === 0) return;
    const now = this.#now();
    const due: Node[] = [];
    for (const queue of this.#queues.values()) {
      for (let node = queue.first; node !== undefined && node.deadlineMs <= now; node = node.next)
        due.push(node);
    }
    due.sort((a, b) => a.deadlineMs - b.deadlineMs);
    for (const node of due) {
      // A callback may have cancelled one that was due together with it.
      if (node.queue === undefined) continue;
      node.queue.remove(node);
      node.callback();
    }
  }
}
