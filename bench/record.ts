/**
 * From the values of several rounds to one record a row, and its JSON form: what regression checks read.
 * Must not know how a value was measured.
 */
import { ROWS, type Row, type RowName } from "./rows.js";
import { median, pairedRatio, significant, spread } from "./statistics.js";

export const SIDES = ["ours", "peer", "floor"] as const;
export type Side = (typeof SIDES)[number];

/** The values of one row, a round each. A side that was not measured has none. */
export type Values = Readonly<Record<Side, readonly number[]>>;

/** Something of a row for each thing that ours is compared with; null: not measured, or no bar. */
export interface Compared<T> {
  readonly peer: T | null;
  readonly floor: T | null;
}

export interface BenchRecord {
  readonly row: RowName;
  readonly unit: Row["unit"];
  /** Medians over the rounds; null: not measured. */
  readonly ours: number | null;
  readonly peer: number | null;
  readonly floor: number | null;
  /** Ours over the other's: the median of the rounds' ratios. */
  readonly ratio: Compared<number>;
  readonly bar: Compared<number> & { readonly own: number | null };
  /** Whether every bar that could be checked is met; null if none could be. */
  readonly met: boolean | null;
  /** (Largest - smallest) / median over the rounds. */
  readonly spread: Readonly<Record<Side, number | null>>;
}

export function makeRecord(name: RowName, values: Values, row: Row = ROWS[name]): BenchRecord {
  const middle = (side: Side): number | null =>
    values[side].length === 0 ? null : significant(median(values[side]));
  const ratio: Compared<number> = {
    peer: rounded(pairedRatio(values.ours, values.peer), 3),
    floor: rounded(pairedRatio(values.ours, values.floor), 3),
  };
  const ours = middle("ours");
  const { peer = null, floor = null, own = null } = row.bar;
  const checks = [
    [ratio.peer, peer],
    [ratio.floor, floor],
    [ours, own],
  ].flatMap(([found, bar]) => (found === null || bar === null ? [] : [meets(row, found, bar)]));
  return {
    row: name,
    unit: row.unit,
    ours,
    peer: middle("peer"),
    floor: middle("floor"),
    ratio,
    bar: { peer, floor, own },
    met: checks.length === 0 ? null : checks.every(Boolean),
    spread: { ours: spreadOf(values.ours), peer: spreadOf(values.peer), floor: spreadOf(values.floor) },
  };
}

export function meets({ better }: Pick<Row, "better">, found: number, bar: number): boolean {
  return better === "more" ? found >= bar : found <= bar;
}

/** One line of JSON, without its end. */
export function toJson(record: BenchRecord): string {
  return JSON.stringify(record);
}

function rounded(value: number | undefined, digits: number): number | null {
  return value === undefined ? null : significant(value, digits);
}

function spreadOf(values: readonly number[]): number | null {
  return values.length === 0 ? null : significant(spread(values), 2);
}
