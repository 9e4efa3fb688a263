/** Keeps a load at a share of one processor: tells how long to rest between two pieces of work. */
import { cpuSeconds } from "./proc-stat.js";

const LEAST_REST_MS = 1;
const LONGEST_REST_MS = 2000;
/** By how much one look at the clock may change it. */
const MOST_CHANGE = 2;

/** The next rest, from the share that was used with the rest of before. */
export function nextRestMs(restMs: number, used: number, wanted: number): number {
  const change = Math.min(MOST_CHANGE, Math.max(1 / MOST_CHANGE, used / wanted));
  return Math.min(LONGEST_REST_MS, Math.max(LEAST_REST_MS, restMs * change));
}

export class Pace {
  restMs = 50;
  readonly #pids: readonly number[];
  #seconds: number;
  #atMs = performance.now();

  /** `wanted`: of one processor, for all of these processes together. */
  constructor(
    pids: readonly number[],
    private readonly wanted: number,
  ) {
    this.#pids = pids;
    this.#seconds = this.cpuSeconds;
  }

  get cpuSeconds(): number {
    return this.#pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  }

  /** To be called now and then: looks at what was used since the last time. */
  adjust(): void {
    const nowMs = performance.now();
    const seconds = this.cpuSeconds;
    if (nowMs - this.#atMs < 100) return;
    const used = (seconds - this.#seconds) / ((nowMs - this.#atMs) / 1000);
    this.restMs = nextRestMs(this.restMs, used, this.wanted);
    this.#seconds = seconds;
    this.#atMs = nowMs;
  }
}
