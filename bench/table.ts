/** Records as a table for people, in plain text. */
import type { BenchRecord } from "./record.js";
import { ROWS } from "./rows.js";

const HEADINGS = ["row", "", "unit", "ours", "±", "peer", "±", "floor", "of peer", "of floor", "bars", "met"];

export function toTable(records: readonly BenchRecord[]): string {
  const lines = [HEADINGS, ...records.map(cells)];
  const widths = HEADINGS.map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines
    .map((line) => line.map((cell, column) => pad(cell, widths[column], column)).join("  "))
    .map((line) => line.trimEnd())
    .join("\n");
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

function text(value: number | null): string {
  return value === null ? "-" : String(value);
}

function percent(value: number | null): string {
  return value === null ? "-" : `${Math.round(value * 100)}%`;
}

/** Words to the left, figures to the right. */
function pad(cell: string, width: number, column: number): string {
  return column < 3 || column > 9 ? cell.padEnd(width) : cell.padStart(width);
}
