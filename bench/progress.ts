/**
 * A page that the programs of a measurement share: how many bytes there will be in all, once the sender knows, and
 * whether it is over. Looked at when nothing else happens, so that payload need not say it.
 */
import { closeSync, ftruncateSync, openSync } from "node:fs";
import { mapShared, PAGE_BYTES, view } from "../src/linux/mapping.js";

const IS_OVER = 0;
const LOW = 1;
const HIGH = 2;

export class Progress {
  readonly #words: Int32Array;

  /** The file is made if it is not there. */
  constructor(path: string) {
    const fd = openSync(path, "a+", 0o600);
    ftruncateSync(fd, PAGE_BYTES);
    this.#words = new Int32Array(view(mapShared(fd, 0, PAGE_BYTES), PAGE_BYTES));
    closeSync(fd);
  }

  /** Before each measurement. */
  reset(): void {
    Atomics.store(this.#words, IS_OVER, 0);
  }

  /** Nothing more is sent than these bytes in all. */
  end(totalBytes: number): void {
    this.#words[LOW] = totalBytes >>> 0;
    this.#words[HIGH] = totalBytes / 2 ** 32;
    Atomics.store(this.#words, IS_OVER, 1);
  }

  get isOver(): boolean {
    return Atomics.load(this.#words, IS_OVER) === 1;
  }

  /** How many bytes there are in all, or infinity as long as nobody knows. */
  get totalBytes(): number {
    if (!this.isOver) return Number.POSITIVE_INFINITY;
    return (this.#words[HIGH] >>> 0) * 2 ** 32 + (this.#words[LOW] >>> 0);
  }
}

// Node reads CLOCK_MONOTONIC for both; the one that returns a number allocates nothing.
const originNs = Number(process.hrtime.bigint()) - performance.now() * 1e6;

/** Nanoseconds of the clock that all processes of the machine share. */
export function monotonicNs(): number {
  return originNs + performance.now() * 1e6;
}
