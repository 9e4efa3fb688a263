/**
 * From the values of several rounds to one record a row, and its JSON form: what regression checks and the report read.
 * The names of fields are stable. Must not know how a value was measured.
 */
import { ROWS, type Row, type RowName, type Setting } from "./rows.js";
import { median, pairedRatio, significant, spread } from "./statistics.js";

export const SIDES = ["ours", "peer", "floor"] as const;
export type Side = (typeof SIDES)[number];

/** Something of each side. */
export type BySide<T> = Readonly<Record<Side, T>>;
/** Something of the sides that have a device. */
export type ByDevice<T> = Readonly<Record<Exclude<Side, "floor">, T>>;

/** The values of one row, a round each. A side that was not measured has none. */
export type Values = BySide<readonly number[]>;

/** Something of a row for each thing that ours is compared with; null: not measured, or no bar. */
export interface Compared<T> {
  readonly peer: T | null;
  readonly floor: T | null;
}

/** One thread of a device, and its CPU time as a share of the time measured. */
export interface BusyThread {
  readonly name: string;
  readonly busy: number;
}

/** The CPU time of the processes that took part in a work, as shares of the time measured: 1 is one processor, all of it. */
export interface Busy {
  /** Undefined: the side has no device. */
  readonly device: number | undefined;
  readonly threads: readonly BusyThread[];
  readonly driver: number;
  readonly host: number;
  /** Everything else on the machine. */
  readonly other: number;
}

export interface BenchRecord {
  readonly row: RowName;
  /** "default": each device as it comes. "equal": both advertise buffers of the same size. */
  readonly setting: Setting;
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
  readonly spread: BySide<number | null>;
  /** How many values of ours the medians are of. */
  readonly rounds: number;
  /** Rounds that do not count because others kept the machine busy meanwhile (`quiet-rounds.ts`). */
  readonly leftOut: number;
  /** The buffers that were advertised, in bytes; null: not a row of a contest, or no peer. */
  readonly buffers: ByDevice<number | null>;
  /**
   * CPU time of the device's process, of the guest's program, which is the driver, and of the host's program, from just
   * before each run to just after it, over the time measured, all rounds together: 1 is one processor, all of the time.
   * Connecting counts, so that these are upper bounds. Null: not measured, or there is no such process.
   */
  readonly deviceBusy: ByDevice<number | null>;
  readonly driverBusy: BySide<number | null>;
  readonly hostBusy: BySide<number | null>;
  /**
   * What everything else on the machine took meanwhile, hypervisor included, in processors: beyond a few percent the
   * machine was not quiet, and the figures are of little worth. From /proc/stat, so in hundredths of a second.
   */
  readonly otherBusy: BySide<number | null>;
  /** The device's threads that did half a percent or more, the busiest first. */
  readonly threads: ByDevice<readonly BusyThread[]>;
  /** Of a stated row, what ours is made of, in the row's unit: medians over the rounds. */
  readonly parts?: Readonly<Record<string, number>>;
}

/** What a record says beside its values. */
export interface About {
  readonly setting?: Setting;
  readonly buffers?: BenchRecord["buffers"];
  readonly busy?: Readonly<Partial<Record<Side, Busy>>>;
  readonly leftOut?: number;
  readonly parts?: Readonly<Record<string, readonly number[]>>;
}

const LEAST_BUSY = 0.005;

export function makeRecord(name: RowName, values: Values, about: About = {}): BenchRecord {
  const row = ROWS[name];
  const { setting = "default", buffers = { ours: null, peer: null }, busy = {}, leftOut = 0, parts } = about;
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
    setting,
    unit: row.unit,
    ours,
    peer: middle("peer"),
    floor: middle("floor"),
    ratio,
    bar: { peer, floor, own },
    met: checks.length === 0 ? null : checks.every(Boolean),
    spread: bySide((side) => (values[side].length === 0 ? null : significant(spread(values[side]), 2))),
    rounds: values.ours.length,
    leftOut,
    buffers,
    deviceBusy: byDevice((side) => rounded(busy[side]?.device, 3)),
    driverBusy: bySide((side) => rounded(busy[side]?.driver, 3)),
    hostBusy: bySide((side) => rounded(busy[side]?.host, 3)),
    otherBusy: bySide((side) => rounded(busy[side]?.other, 2)),
    threads: byDevice((side) => busiest(busy[side]?.threads ?? [])),
    ...(parts === undefined ? {} : { parts: mediansOf(parts) }),
  };
}

function bySide<T>(of: (side: Side) => T): BySide<T> {
  return { ours: of("ours"), peer: of("peer"), floor: of("floor") };
}

function byDevice<T>(of: (side: "ours" | "peer") => T): ByDevice<T> {
  return { ours: of("ours"), peer: of("peer") };
}

function busiest(threads: readonly BusyThread[]): BusyThread[] {
  return threads
    .filter(({ busy }) => busy >= LEAST_BUSY)
    .sort((a, b) => b.busy - a.busy)
    .map(({ name, busy }) => ({ name, busy: significant(busy, 3) }));
}

function mediansOf(parts: NonNullable<About["parts"]>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(parts).map(([name, found]) => [name, significant(median(found))] as const),
  );
}

export function meets({ better }: Pick<Row, "better">, found: number, bar: number): boolean {
  return better === "more" ? found >= bar : found <= bar;
}

/** One line of JSON, without its end. */
export function toJson(record: BenchRecord): string {
  return JSON.stringify(record);
}

function rounded(value: number | undefined, digits: number): number | null {
  return value === undefined || Number.isNaN(value) ? null : significant(value, digits);
}
