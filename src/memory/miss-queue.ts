/**
 * What is missing in the IOTLB: the pages that a ring needs and that the front-end has to be asked for. Merges,
 * bounds and paces the questions; does not send them, and does not know when asking is allowed (before the
 * translation mode is decided the session simply takes nothing).
 */
import type { Access, Iova } from "./address.js";

/** Our choice: several chains' worth. What does not fit is asked for when the ring is tried again. */
export const MOST_PENDING_MISSES = 256;

/**
 * Our choice: how long a MISS may stay unanswered before it may be asked again; each time in a row that nothing was
 * answered doubles the wait, up to `LONGEST_WAIT_FACTOR` times. An honest front-end answers within a millisecond, but
 * one on a busy machine can take much longer, and asking twice does harm: the first answer lets the buffer be used
 * and unmapped, and the second question then finds nothing, which QEMU reports to the guest as a DMA fault of the
 * device (seen in a Linux guest behind intel-iommu with a wait of 100 ms).
 */
export const MISS_TIMEOUT_MS = 5000;
const LONGEST_WAIT_FACTOR = 16;

const NOT_SENT = -1;

/** A question for the front-end, in the terms of VHOST_IOTLB_MISS. */
export interface Miss {
  readonly iova: Iova;
  readonly permission: Access;
}

export interface MissQueueOptions {
  /** Default `MOST_PENDING_MISSES`. */
  readonly capacity?: number;
  /** Default `MISS_TIMEOUT_MS`. */
  readonly timeoutMs?: number;
}

export interface MissStatistics {
  /** Questions noted, and those that one already pending answers too. */
  noted: number;
  merged: number;
  /** Questions that found the queue full. */
  refused: number;
  sent: number;
  /** Sent, and forgotten without an answer. */
  unanswered: number;
}

export class MissQueue {
  /** How many are pending: noted and not yet answered. */
  count = 0;
  readonly capacity: number;
  readonly statistics: MissStatistics = { noted: 0, merged: 0, refused: 0, sent: 0, unanswered: 0 };

  /** Pending misses in the order in which they were noted: page number, offset in the page, accesses, time. */
  readonly #page: Float64Array;
  readonly #offset: Uint16Array;
  readonly #access: Uint8Array;
  readonly #sentAtMs: Float64Array;
  readonly #columns: readonly (Float64Array | Uint16Array | Uint8Array)[];
  readonly #timeoutMs: number;
  #waitFactor = 1;

  constructor(options: MissQueueOptions = {}) {
    this.capacity = options.capacity ?? MOST_PENDING_MISSES;
    this.#timeoutMs = options.timeoutMs ?? MISS_TIMEOUT_MS;
    this.#page = new Float64Array(this.capacity);
    this.#offset = new Uint16Array(this.capacity);
    this.#access = new Uint8Array(this.capacity);
    this.#sentAtMs = new Float64Array(this.capacity);
    this.#columns = [this.#page, this.#offset, this.#access, this.#sentAtMs];
  }

  get isFull(): boolean {
    return this.count === this.capacity;
  }

  /**
   * Notes that a byte is missing for `access`. One question a page is enough, unless it was sent already for an access
   * that does not include this one. False if the queue is full.
   */
  note(page: number, offset: number, access: Access): boolean {
    for (let index = 0; index < this.count; index++) {
      if (this.#page[index] !== page) continue;
      const isCovered = (this.#access[index] & access) === access;
      if (!isCovered && this.#sentAtMs[index] !== NOT_SENT) continue;
      this.#access[index] |= access;
      this.statistics.merged++;
      return true;
    }
    if (this.isFull) {
      this.statistics.refused++;
      return false;
    }
    const index = this.count++;
    this.#page[index] = page;
    this.#offset[index] = offset;
    this.#access[index] = access;
    this.#sentAtMs[index] = NOT_SENT;
    this.statistics.noted++;
    return true;
  }

  /** True if a question about this page waits for its answer. */
  isPending(page: number): boolean {
    for (let index = 0; index < this.count; index++) {
      if (this.#page[index] === page) return true;
    }
    return false;
  }

  /** The next question that has not been sent yet; it counts as sent at `nowMs`. */
  take(nowMs: number): Miss | undefined {
    const index = this.#firstUnsent();
    if (index < 0) return undefined;
    this.#sentAtMs[index] = nowMs;
    this.statistics.sent++;
    return {
      iova: BigInt(this.#page[index]) * 4096n + BigInt(this.#offset[index]),
      permission: this.#access[index] as Access,
    };
  }

  /** True if `take` has something to give. */
  get hasUnsent(): boolean {
    return this.#firstUnsent() >= 0;
  }

  /** An UPDATE came: forgets the misses inside its range, and returns how many those were. */
  satisfied(iova: Iova, size: bigint): number {
    const removed = this.#removeWhere((index) => {
      const missing = BigInt(this.#page[index]) * 4096n + BigInt(this.#offset[index]);
      return missing >= iova && missing < iova + size;
    });
    if (removed > 0) this.#waitFactor = 1;
    return removed;
  }

  /**
   * Forgets the misses that were sent too long ago, and returns how many those were. If any, the caller runs its rings
   * again: what they still need is noted anew, and what no ring needs any more is not asked for ever.
   */
  forgetUnanswered(nowMs: number): number {
    const deadline = nowMs - this.#timeoutMs * this.#waitFactor;
    const removed = this.#removeWhere(
      (index) => this.#sentAtMs[index] !== NOT_SENT && this.#sentAtMs[index] <= deadline,
    );
    this.statistics.unanswered += removed;
    if (removed > 0) this.#waitFactor = Math.min(this.#waitFactor * 2, LONGEST_WAIT_FACTOR);
    return removed;
  }

  clear(): void {
    this.count = 0;
    this.#waitFactor = 1;
  }

  #firstUnsent(): number {
    for (let index = 0; index < this.count; index++) {
      if (this.#sentAtMs[index] === NOT_SENT) return index;
    }
    return -1;
  }

  /** Removes the misses for which `isGone` is true, and keeps the order of the rest. */
  #removeWhere(isGone: (index: number) => boolean): number {
    let kept = 0;
    const before = this.count;
    for (let index = 0; index < before; index++) {
      if (isGone(index)) continue;
      if (kept !== index) {
        for (const column of this.#columns) column[kept] = column[index];
      }
      kept++;
    }
    this.count = kept;
    return before - kept;
  }
}

/** The access that a MISS asks for when an entry is there but does not permit `wanted`: both, so that none is lost. */
export function widened(granted: number, wanted: Access): Access {
  return (granted | wanted) as Access;
}
