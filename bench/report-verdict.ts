/**
 * From the records of one row in both settings to a verdict: which bars are met, which are missed, which could not be
 * checked. Arithmetic only; must not know how it is written down.
 */
import { type BenchRecord, meets } from "./record.js";
import { type Better, ROW_NAMES, ROWS, type RowName, SETTINGS, STATED_ROW_NAMES } from "./rows.js";

/** A row in the settings it was measured in. */
export interface Judged {
  readonly row: RowName;
  readonly better: Better;
  readonly byDefault: BenchRecord | undefined;
  readonly withEqual: BenchRecord | undefined;
  /** Stated: no bar is on it. */
  readonly verdict: "met" | "missed" | "unchecked" | "stated";
  /** What was missed, in words. */
  readonly missed: readonly string[];
  /** What has a bar and no figure, in words. */
  readonly unchecked: readonly string[];
  /** In some setting the peer does better, be there a bar or not. */
  readonly isWorseThanPeer: boolean;
}

const WITH = { default: "the peer", equal: "the peer with equal buffers" } as const;

/** What is compared, in words, and what was found: a figure for each setting, as far as it is known. */
type Check = readonly [
  against: "peer" | "floor" | "own",
  words: string,
  found: readonly (number | null | undefined)[],
];

/** Every row that there is, in its order; those without a bar come last. */
export function judge(records: readonly BenchRecord[]): Judged[] {
  return [...ROW_NAMES, ...STATED_ROW_NAMES].map((row) => judged(row, records));
}

function judged(row: RowName, records: readonly BenchRecord[]): Judged {
  const { better, bar } = ROWS[row];
  const of = (setting: BenchRecord["setting"]): BenchRecord | undefined =>
    records.find((record) => record.row === row && record.setting === setting);
  const both = SETTINGS.map(of);
  // What the figures were measured against.
  const limitOf = (against: Check[0]): number | undefined =>
    both.find((record) => record !== undefined)?.bar[against] ?? bar[against];
  // A bar against the peer holds in both settings. The floor has no buffer, and a share is nobody's but ours.
  const checks: readonly Check[] = [
    ...SETTINGS.map((setting): Check => ["peer", WITH[setting], [of(setting)?.ratio.peer]]),
    ["floor", "the floor", both.map((record) => record?.ratio.floor)],
    ["own", "itself", both.map((record) => record?.ours)],
  ];
  const [missed, unchecked]: [string[], string[]] = [[], []];
  for (const [against, words, found] of checks) {
    const limit = limitOf(against);
    if (limit === undefined) continue;
    const known = found.filter((value) => typeof value === "number");
    if (known.length === 0) unchecked.push(words);
    else if (!known.every((value) => meets({ better }, value, limit))) missed.push(words);
  }
  const verdict =
    Object.keys(bar).length === 0
      ? "stated"
      : missed.length > 0
        ? "missed"
        : unchecked.length > 0
          ? "unchecked"
          : "met";
  const ratios = both.flatMap((record) => record?.ratio.peer ?? []);
  return {
    row,
    better,
    byDefault: of("default"),
    withEqual: of("equal"),
    verdict,
    missed,
    unchecked,
    isWorseThanPeer: ratios.some((ratio) => !meets({ better }, ratio, 1)),
  };
}
