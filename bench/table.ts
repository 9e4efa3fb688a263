/** Records as tables for people, in plain text. */
import { type BenchRecord, SIDES, type Side } from "./record.js";
import { ROWS, type RowName, rowsOf, SETTINGS, WORKS } from "./rows.js";

const HEADINGS = ["row", "", "unit", "ours", "±", "peer", "±", "floor", "of peer", "of floor", "bars", "met"];

/** A line each, those of one setting together. */
export function toTable(records: readonly BenchRecord[]): string {
  const groups = SETTINGS.map((setting) => records.filter((record) => record.setting === setting)).filter(
    (group) => group.length > 0,
  );
  const lines = aligned([HEADINGS, ...groups.flat().map(cells)], 3, 9);
  if (groups.length === 1) return lines.join("\n");
  const [headings, ...rest] = lines;
  const titled = groups.flatMap((group) => [titleOf(group), ...rest.splice(0, group.length)]);
  return [headings, ...titled].join("\n");
}

function titleOf([{ setting, buffers }]: readonly BenchRecord[]): string {
  const { ours, peer } = buffers;
  const told = ours === null || peer === null ? "" : `: ours ${ours / 1024} KiB, peer ${peer / 1024} KiB`;
  return `-- ${setting === "equal" ? "equal buffers" : "default buffers"}${told}`;
}

function cells(record: BenchRecord): string[] {
  const { title, better } = ROWS[record.row];
  const sign = better === "more" ? "≥" : "≤";
  const { peer, floor, own } = record.bar;
  const bars = [peer === null ? "" : `${sign}${peer}×`, floor ?? own ?? ""].filter((bar) => bar !== "");
  return [
    record.row,
    title,
    record.unit,
    text(record.ours),
    percent(record.spread.ours),
    text(record.peer),
    percent(record.spread.peer),
    text(record.floor),
    text(record.ratio.peer),
    text(record.ratio.floor),
    bars.join(" "),
    record.met === null ? "" : record.met ? "yes" : "NO",
  ];
}

/** One for each kind of work. */
const FIRST_ROWS: ReadonlySet<RowName> = new Set(WORKS.map((work) => rowsOf(work)[0]));
const PROCESSES = ["device", "driver", "host", "other"] as const;

/** Who was busy in each work, in percent of the time measured; 100% is one processor. One line a work. */
export function toBusyTable(records: readonly BenchRecord[]): string {
  const headings = ["work", "setting", ...SIDES.flatMap((side) => [`${side}:`, ...PROCESSES]), "threads"];
  const lines = records.filter(({ row }) => FIRST_ROWS.has(row)).map(busyCells);
  return aligned([headings, ...lines], 2, headings.length - 2).join("\n");
}

/** How much of a processor everything else took at most, in the work in which that was most; 0 if nobody looked. */
export function mostDisturbed(records: readonly BenchRecord[]): number {
  return Math.max(0, ...records.flatMap(({ otherBusy }) => SIDES.map((side) => otherBusy[side] ?? 0)));
}

function busyCells(record: BenchRecord): string[] {
  const of = (side: Side): string[] => [
    "",
    percent(side === "floor" ? null : record.deviceBusy[side]),
    percent(record.driverBusy[side]),
    percent(record.hostBusy[side]),
    percent(record.otherBusy[side]),
  ];
  const threads = record.threads.ours.map(({ name, busy }) => `${name} ${percent(busy)}`).join(", ");
  return [record.row, record.setting, ...SIDES.flatMap(of), threads];
}

function text(value: number | null): string {
  return value === null ? "-" : String(value);
}

function percent(value: number | null): string {
  return value === null ? "-" : `${Math.round(value * 100)}%`;
}

/** Words to the left, and figures, from one column to another, to the right. */
function aligned(lines: readonly (readonly string[])[], firstFigure: number, lastFigure: number): string[] {
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines.map((line) =>
    line
      .map((cell, column) =>
        column < firstFigure || column > lastFigure
          ? cell.padEnd(widths[column])
          : cell.padStart(widths[column]),
      )
      .join("  ")
      .trimEnd(),
  );
}
