/** From values to places on an axis, and which values to write beside it. Must not know how it is drawn. */

export interface Scale {
  readonly from: number;
  readonly to: number;
  /** Where a value is; what lies outside of the axis is put at its end. */
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

/** From the first to the last place that the axis takes up. */
export type Extent = readonly [start: number, end: number];

/** 1, 2 and 5 of each power of ten; ends at ticks on both sides of all values. */
export function logScale(values: readonly number[], [start, end]: Extent): Scale {
  const known = values.filter((value) => value > 0);
  const [from, to] = [roundDown(Math.min(...known)), roundUp(Math.max(...known))];
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(from)); power <= Math.ceil(Math.log10(to)); power++)
    for (const digit of [1, 2, 5]) {
      const tick = exact(digit, power);
      if (tick >= from && tick <= to) ticks.push(tick);
    }
  const span = Math.log(to / from) || 1;
  const at = (value: number): number =>
    start + ((end - start) * Math.log(Math.min(Math.max(value, from), to) / from)) / span;
  return { from, to, at, ticks };
}

/** From 0 to a tick above all values, in four to six steps of 1, 2 or 5. */
export function linearScale(values: readonly number[], [start, end]: Extent): Scale {
  const most = Math.max(...values, 0) || 1;
  const step = roundUp(most / 5);
  const steps = Math.ceil(most / step - 1e-9);
  const to = steps * step;
  const ticks = Array.from({ length: steps + 1 }, (_, index) => Number((index * step).toPrecision(12)));
  const at = (value: number): number => start + ((end - start) * Math.min(Math.max(value, 0), to)) / to;
  return { from: 0, to, at, ticks };
}

/** Which ticks of a logarithmic axis to write, if not all have room: those of the fewest digits, 1 among them. */
export function writtenTicks({ ticks, at }: Scale, widthOf: (tick: number) => number, gap: number): number[] {
  for (const digits of [[1, 2, 5], [1, 5], [1]]) {
    const some = ticks.filter((tick) => digits.includes(Number(tick.toExponential()[0])));
    const extents = some.map((tick): Extent => [at(tick) - widthOf(tick) / 2, at(tick) + widthOf(tick) / 2]);
    if (extents.every(([start], index) => index === 0 || extents[index - 1][1] + gap <= start)) return some;
  }
  return [1];
}

/** Those of some labels that keep apart: the last one, and from the first on each that meets no earlier one. */
export function keepApart<T>(labels: readonly T[], extentOf: (label: T) => Extent, gap: number): T[] {
  const last = labels.at(-1);
  if (last === undefined) return [];
  const kept: T[] = [];
  let free = Number.NEGATIVE_INFINITY;
  for (const each of labels.slice(0, -1)) {
    const [start, end] = extentOf(each);
    if (start < free || end + gap > extentOf(last)[0]) continue;
    kept.push(each);
    free = end + gap;
  }
  return [...kept, last];
}

function roundUp(value: number): number {
  const power = Math.floor(Math.log10(value));
  for (const digit of [1, 2, 5, 10])
    if (exact(digit, power) >= value * (1 - 1e-9)) return exact(digit, power);
  return exact(10, power);
}

function roundDown(value: number): number {
  const power = Math.floor(Math.log10(value));
  for (const digit of [5, 2, 1]) if (exact(digit, power) <= value * (1 + 1e-9)) return exact(digit, power);
  return exact(1, power);
}

function exact(digit: number, power: number): number {
  return Number(`${digit}e${power}`);
}
