/**
 * A comparison as plain text: what got worse and what better, each kind of change once, with whom it concerns. Pure.
 * Must not know where the text goes: a terminal, a mail.
 */
import type { Change, Comparison } from "./compare.js";
import type { CellRecord, Verdict } from "./record.js";
import { EVIDENCE_MARKS, type Paint } from "./table.js";
import { counted, wrap } from "./text.js";

/** Which of the three changed, and so which two name a combination. */
export type Changed = "vmm" | "device";

export interface ChangesOptions {
  readonly changed: Changed;
  readonly width: number;
  readonly paint?: Paint;
}

interface Group {
  readonly from: Verdict;
  readonly to: Verdict;
  readonly reason: string;
  readonly cells: CellRecord[];
}

const PLAIN: Paint = (_, text) => text;

/** Changes of one direction; nothing if there are none. */
export function changeLines(heading: string, changes: readonly Change[], options: ChangesOptions): string[] {
  if (changes.length === 0) return [];
  const { width, paint = PLAIN } = options;
  const lines = [paint("heading", `${heading}: ${counted(changes.length, "combination")}`)];
  for (const { from, to, reason, cells } of grouped(changes)) {
    const text = `${from} -> ${to}`;
    const [first, ...rest] = wrap(`${text}: ${reason}`, width, { first: "  ", further: "      " });
    const painted = `  ${paint(from, from)} -> ${paint(to, to)}`;
    // A line that breaks within the words themselves stays uncoloured.
    lines.push("", first.startsWith(`  ${text}`) ? painted + first.slice(text.length + 2) : first, ...rest);
    for (const [partners, guests] of together(cells, options.changed)) {
      const text = `${guests.join(", ")} with ${partners}`;
      lines.push(...wrap(text, width, { first: "    ", further: "        " }));
    }
  }
  return lines;
}

/** One sentence each about what did not change. */
export function restLines(
  { worse, better, unchanged, onlyBefore, onlyAfter, neither }: Comparison,
  before: string,
  after: string,
  width: number,
): string[] {
  const isEmpty = worse.length + better.length + unchanged === 0;
  const sentences = [
    isEmpty
      ? `No combination applies to both ${before} and ${after}, so there is nothing to compare.`
      : `${counted(unchanged, "combination")} ${unchanged === 1 ? "keeps its verdict" : "keep their verdict"}.`,
    ...(onlyBefore.length === 0 ? [] : [`${onlyBefore.length} apply to ${before} only.`]),
    ...(onlyAfter.length === 0 ? [] : [`${onlyAfter.length} apply to ${after} only.`]),
    ...(neither === 0 ? [] : [`${neither} apply to neither.`]),
  ];
  return wrap(sentences.join(" "), width);
}

/** Changes that are told in one breath: the same step for the same reason. Order: as they first come. */
function grouped(changes: readonly Change[]): Group[] {
  const groups = new Map<string, Group>();
  for (const { before, after } of changes) {
    const key = JSON.stringify([before.verdict, after.verdict, after.reason]);
    const group = groups.get(key) ?? {
      from: before.verdict,
      to: after.verdict,
      reason: after.reason,
      cells: [],
    };
    group.cells.push(after);
    groups.set(key, group);
  }
  return [...groups.values()];
}

/** Guests whose partners are the same, in one row: those partners, and the guests. */
function together(cells: readonly CellRecord[], changed: Changed): Map<string, string[]> {
  const partnersOf = new Map<string, string[]>();
  for (const cell of cells) {
    const partner = changed === "device" ? cell.vmm : cell.device;
    const marked = partner + EVIDENCE_MARKS[cell.evidence];
    partnersOf.set(cell.guest, [...(partnersOf.get(cell.guest) ?? []), marked]);
  }
  const rows = new Map<string, string[]>();
  for (const [guest, partners] of partnersOf) {
    const key = partners.join(", ");
    rows.set(key, [...(rows.get(key) ?? []), guest]);
  }
  return rows;
}
