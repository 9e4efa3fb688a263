/**
 * "Did you mean": the known word nearest to what was typed, if it is near enough to be a slip.
 * Must not know what the words are.
 */

/** The nearest of `known`, or undefined if `typed` looks like none of them. */
export function nearest(typed: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  // A slip is one wrong letter in three; more than that, and a guess would only mislead.
  let bestDistance = Math.max(1, Math.floor(typed.length / 3)) + 1;
  for (const word of known) {
    const distance = editDistance(typed, word);
    if (distance < bestDistance) [best, bestDistance] = [word, distance];
  }
  return best;
}

/** `; did you mean --socket?`, or nothing. */
export function didYouMean(typed: string, known: readonly string[]): string {
  const word = nearest(typed, known);
  return word === undefined ? "" : `; did you mean ${word}?`;
}

/**
 * Insertions, deletions, replacements and swaps of neighbours that turn one word into the other (optimal
 * string alignment), one row of the table at a time.
 */
export function editDistance(from: string, to: string): number {
  let twoBack: number[] = [];
  let previous = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const replaced = previous[j - 1] + (from[i - 1] === to[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      row[j] = Math.min(
        replaced,
        previous[j] + 1,
        row[j - 1] + 1,
        isSwap ? twoBack[j - 2] + 1 : Number.POSITIVE_INFINITY,
      );
    }
    [twoBack, previous] = [previous, row];
  }
  return previous[to.length];
}

const MOST_WORDS = 5;
/** A shorter word is a part of too many names to mean one of them. */
const SHORTEST_PART = 3;

/** The known words like the one typed, nearest first: slips of it, then those that it is a part of. */
export function nearWords(typed: string, known: readonly string[]): readonly string[] {
  const furthest = Math.max(1, Math.floor(typed.length / 3));
  const ranked = known.flatMap((word) => {
    const distance = editDistance(typed, word);
    if (distance <= furthest) return [{ word, rank: distance }];
    return typed.length >= SHORTEST_PART && word.includes(typed) ? [{ word, rank: furthest + distance }] : [];
  });
  return ranked
    .sort((a, b) => a.rank - b.rank)
    .slice(0, MOST_WORDS)
    .map(({ word }) => word);
}
