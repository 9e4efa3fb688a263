/** A histogram of small whole numbers whose buckets are powers of two. Adding to it is two additions. */

/** The largest number of each bucket; what is above the last one has a bucket of its own. */
export const BUCKET_BOUNDS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] as const;

export interface HistogramFigures {
  /** One more than there are bounds. Not cumulative. */
  readonly counts: readonly number[];
  readonly sum: number;
}

export class Histogram {
  readonly #counts = new Float64Array(BUCKET_BOUNDS.length + 1);
  readonly #sum = new Float64Array(1);

  /** `value` is at least 1. */
  add(value: number): void {
    // 1 -> 0, 2 -> 1, 3 and 4 -> 2, 5 to 8 -> 3: the bits of what is one less.
    const bucket = 32 - Math.clz32(value - 1);
    this.#counts[Math.min(bucket, BUCKET_BOUNDS.length)]++;
    this.#sum[0] += value;
  }

  get figures(): HistogramFigures {
    return { counts: [...this.#counts], sum: this.#sum[0] };
  }
}
