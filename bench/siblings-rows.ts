/** The rows on siblings: what one guest gets from another of the same program. Must not know how it was measured. */

/** The names of the rows, and what they measure. */
export const SIBLING_ROWS = {
  "guest-to-guest-64k": "one connection, messages of 64 KiB",
} as const;
export type SiblingRow = keyof typeof SIBLING_ROWS;

export interface SiblingRecord {
  readonly row: SiblingRow;
  /** Each device as it comes, or both with the same buffer. */
  readonly setting: "default" | "equal";
  readonly unit: "MiB/s";
  /** Medians over the rounds; null: the peer is not installed. */
  readonly ours: number;
  readonly peer: number | null;
  /** The median of the rounds' ratios. */
  readonly ratio: number | null;
  /** The requirement: ours is at least so many times as fast. */
  readonly bar: number;
  readonly met: boolean | null;
  readonly spread: { readonly ours: number; readonly peer: number | null };
  readonly rounds: number;
}
