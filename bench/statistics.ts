/**
 * The arithmetic of the measurements: medians, spread, percentiles, ratios. Must not know what the numbers are of.
 */

/** The middle of the values; of an even number of them, the mean of the two in the middle. NaN if there are none. */
export function median(values: readonly number[]): number {
  const sorted = ascending(values);
  const middle = sorted.length >> 1;
  if (sorted.length % 2 === 1) return sorted[middle];
  return (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Nearest rank: the smallest value that at least the fraction `rank` (0 to 1) of the values do not exceed. */
export function percentile(values: readonly number[], rank: number): number {
  const sorted = ascending(values);
  const index = Math.ceil(rank * sorted.length) - 1;
  return sorted[Math.max(0, index)];
}

/** How far the values lie apart: (largest - smallest) / median. 0 for a single value. */
export function spread(values: readonly number[]): number {
  return (Math.max(...values) - Math.min(...values)) / median(values);
}

/** The smallest value's share of the mean: 1 if all are equal. */
export function smallestShare(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.min(...values) / mean;
}

/**
 * The median of the ratios of values that were measured one after the other, round by round: what slows a whole round
 * down falls out of it. Undefined unless both have a value for at least one round.
 */
export function pairedRatio(of: readonly number[], to: readonly number[]): number | undefined {
  const rounds = Math.min(of.length, to.length);
  if (rounds === 0) return undefined;
  return median(Array.from({ length: rounds }, (_, round) => of[round] / to[round]));
}

/** To so many significant digits, as a number. */
export function significant(value: number, digits = 4): number {
  return Number(value.toPrecision(digits));
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}
