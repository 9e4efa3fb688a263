/**
 * A coverage-guided fuzzer: keeps the inputs that ran something new, changes them, and looks again. Runs in the process
 * that it may crash; whoever started that process knows which input was the last (`onInput`). Must not know what is
 * fuzzed, nor files.
 */
import { performance } from "node:perf_hooks";
import { Coverage } from "./coverage.js";
import { mutated, Random } from "./random.js";
import type { Target } from "./target.js";

export interface Failure {
  readonly input: Uint8Array;
  readonly error: Error;
}

export interface FuzzResult {
  /** Inputs that together run all that was found, those given left in their place. */
  readonly corpus: readonly Uint8Array[];
  readonly runs: number;
  readonly places: number;
  /** The first thing that was wrong, made as short as was possible. */
  readonly failure: Failure | undefined;
}

export interface FuzzOptions {
  readonly corpus: readonly Uint8Array[];
  readonly ms: number;
  readonly seed: number;
  /** Which scripts' coverage counts, by URL. */
  readonly isOurs: (url: string) => boolean;
  /** Called before each run. */
  readonly onInput?: (input: Uint8Array) => void;
}

/** To look at the coverage takes milliseconds: so many inputs that take less are looked at together. */
const MOST_AT_ONCE = 128;
/** The time that a batch should take, for looking at it to be worth it. */
const BATCH_MS = 20;
const MOST_SHORTENINGS = 400;

export class Fuzzer {
  readonly #coverage: Coverage;
  readonly #random: Random;
  readonly #corpus: Uint8Array[] = [];
  readonly #endMs: number;
  #runs = 0;
  #failure: Failure | undefined;

  constructor(
    private readonly target: Target,
    private readonly options: FuzzOptions,
  ) {
    this.#random = new Random(options.seed);
    this.#endMs = performance.now() + options.ms;
    this.#coverage = new Coverage(options.isOurs);
  }

  fuzz(): FuzzResult {
    for (const input of [...this.target.seeds, ...this.options.corpus]) this.#look(input);
    if (this.#corpus.length === 0) this.#corpus.push(new Uint8Array(1));
    let atOnce = 1;
    // How often something ran can be seen of one input at a time only: that gets a quarter of the time.
    let [closeMs, batchMs] = [0, 0];
    while (this.#goesOn) {
      const startMs = performance.now();
      if (3 * closeMs <= batchMs) {
        this.#look(this.#next());
        closeMs += performance.now() - startMs;
      } else {
        this.#lookAtAll(Array.from({ length: atOnce }, () => this.#next()));
        const tookMs = performance.now() - startMs;
        batchMs += tookMs;
        atOnce = Math.max(1, Math.min(MOST_AT_ONCE, Math.floor((BATCH_MS * atOnce) / tookMs)));
      }
    }
    if (this.#failure !== undefined) this.#failure = this.#shortened(this.#failure);
    this.#coverage.close();
    const { places } = this.#coverage;
    return { corpus: this.#corpus, runs: this.#runs, places, failure: this.#failure };
  }

  get #goesOn(): boolean {
    return this.#failure === undefined && performance.now() < this.#endMs;
  }

  #next(): Uint8Array {
    const corpus = this.#corpus;
    // The newest ones lead on more often.
    const newest = Math.max(0, corpus.length - 16);
    const first = this.#random.below(2) === 0 ? 0 : newest;
    const from = first + this.#random.below(corpus.length - first);
    return mutated(corpus[from], this.#random.pick(corpus), this.#random, this.target.mostBytes);
  }

  /** Runs one input and keeps it if it is news. */
  #look(input: Uint8Array): void {
    if (this.#failure !== undefined) return;
    this.#coverage.discard();
    if (this.#fails(input)) return;
    if (this.#coverage.news() !== "none") this.#corpus.push(input);
  }

  /** Runs many; if there was news among them, finds the inputs that brought it by running each again. */
  #lookAtAll(inputs: readonly Uint8Array[]): void {
    for (const input of inputs) if (this.#fails(input)) return;
    if (!this.#coverage.wouldBeNews()) return;
    for (const input of inputs) this.#look(input);
  }

  #fails(input: Uint8Array): boolean {
    this.options.onInput?.(input);
    this.#runs++;
    const error = errorOf(this.target, input);
    if (error !== undefined) this.#failure = { input, error };
    return error !== undefined;
  }

  /** The same error from fewer bytes: parts are left out, then bytes made 0. */
  #shortened(failure: Failure): Failure {
    let best = failure;
    let tries = MOST_SHORTENINGS;
    const attempt = (input: Uint8Array): boolean => {
      if (tries-- <= 0) return false;
      this.options.onInput?.(input);
      const error = errorOf(this.target, input);
      if (error === undefined || kindOf(error) !== kindOf(failure.error)) return false;
      best = { input, error };
      return true;
    };
    for (let size = best.input.length >> 1; size >= 1; size >>= 1) {
      for (let at = 0; at + size <= best.input.length; ) {
        const without = Buffer.concat([best.input.subarray(0, at), best.input.subarray(at + size)]);
        if (!attempt(new Uint8Array(without))) at += size;
      }
    }
    for (let at = 0; at < best.input.length; at++) {
      if (best.input[at] === 0) continue;
      const zeroed = best.input.slice();
      zeroed[at] = 0;
      attempt(zeroed);
    }
    return best;
  }
}

/** The shortest of these inputs that together run every place that all of them run. */
export function distilled(
  target: Target,
  inputs: readonly Uint8Array[],
  isOurs: (url: string) => boolean,
): Uint8Array[] {
  const coverage = new Coverage(isOurs);
  const kept = inputs
    .toSorted((a, b) => a.length - b.length)
    .filter((input) => {
      coverage.discard();
      target.run(input);
      return coverage.news() === "place";
    });
  coverage.close();
  return kept;
}

export function errorOf(target: Target, input: Uint8Array): Error | undefined {
  try {
    target.run(input);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Errors with the same words, numbers aside, are the same mistake. */
function kindOf(error: Error): string {
  return `${error.name} ${error.message.split("\n")[0].replaceAll(/0x[0-9a-f]+|\d+/g, "#")}`;
}
