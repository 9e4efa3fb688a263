/**
 * Arithmetic on feature words: the only place where a bit number becomes a mask.
 *
 * It knows no feature by name. A feature word is a bigint, since bits 32 and up decide the most and
 * JavaScript's own bit operators stop at 31. The names are in registry.ts.
 */

/** One past the highest bit that a 64-bit feature word can hold. */
export const FEATURE_WORD_BITS = 64;

/** The word with only `bit` set. `bit` is a number from 0 to 63. */
export function mask(bit: number): bigint {
  return 1n << BigInt(bit);
}

/** The word with exactly the given bits set. */
export function maskOf(...bits: readonly number[]): bigint {
  return bits.reduce((word, bit) => word | mask(bit), 0n);
}

/** Whether `bit` is set in `word`. */
export function has(word: bigint, bit: number): boolean {
  return (word & mask(bit)) !== 0n;
}

/** `word` without `bit`. */
export function without(word: bigint, bit: number): bigint {
  return has(word, bit) ? word ^ mask(bit) : word;
}

/** The numbers of the bits that are set, lowest first. */
export function bitsOf(word: bigint): number[] {
  const bits: number[] = [];
  for (let bit = 0, rest = word; rest !== 0n; bit++, rest >>= 1n) {
    if ((rest & 1n) !== 0n) bits.push(bit);
  }
  return bits;
}

/** `0x…`, the way a word, an address or a length is written in every log line. */
export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
