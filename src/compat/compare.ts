/**
 * What a change does: two columns (or rows) of a matrix, cell against cell. Pure. Must not know how a change is shown.
 */
import { type Cell, type CellRecord, compareVerdicts } from "./record.js";

/** The same combination before and after; only the changed party differs. */
export interface Change {
  readonly before: CellRecord;
  readonly after: CellRecord;
}

export interface Comparison {
  /** What worked before comes first, as that is what people relied on; then the worst outcome. */
  readonly worse: readonly Change[];
  /** The best outcome first. */
  readonly better: readonly Change[];
  readonly unchanged: number;
  /** Combinations that make sense before only, or after only. */
  readonly onlyBefore: readonly CellRecord[];
  readonly onlyAfter: readonly CellRecord[];
  readonly neither: number;
}

/** @param before and after the same combinations in the same order, but for the party that changed */
export function compareCells(before: readonly Cell[], after: readonly Cell[]): Comparison {
  if (before.length !== after.length) throw new Error("the two sides have different cells");
  const changes: Change[] = [];
  const onlyBefore: CellRecord[] = [];
  const onlyAfter: CellRecord[] = [];
  let neither = 0;
  for (const [index, was] of before.entries()) {
    const is = after[index];
    if (was.verdict === null && is.verdict === null) neither++;
    else if (is.verdict === null) onlyBefore.push(was as CellRecord);
    else if (was.verdict === null) onlyAfter.push(is);
    else changes.push({ before: was, after: is });
  }
  return {
    worse: changes.filter((change) => step(change) > 0).sort(worstFirst),
    better: changes.filter((change) => step(change) < 0).sort(bestFirst),
    unchanged: changes.filter((change) => step(change) === 0).length,
    onlyBefore,
    onlyAfter,
    neither,
  };
}

function step({ before, after }: Change): number {
  return compareVerdicts(after.verdict, before.verdict);
}

/** Of equal outcomes, the deepest fall, then what was checked against real programs. Keeps the order else. */
function worstFirst(a: Change, b: Change): number {
  return (
    Number(worked(b)) - Number(worked(a)) ||
    compareVerdicts(b.after.verdict, a.after.verdict) ||
    step(b) - step(a) ||
    byEvidence(a.after, b.after)
  );
}

function worked({ before }: Change): boolean {
  return before.verdict === "works";
}

function bestFirst(a: Change, b: Change): number {
  return compareVerdicts(a.after.verdict, b.after.verdict) || step(a) - step(b);
}

const EVIDENCE_ORDER = ["executed", "derived", "proposed"];

function byEvidence(a: Cell, b: Cell): number {
  return EVIDENCE_ORDER.indexOf(a.evidence) - EVIDENCE_ORDER.indexOf(b.evidence);
}

/** What somebody would have to mend: neither works nor keeps a hostile driver out. */
export function isBad(cell: Cell): cell is CellRecord {
  return cell.verdict !== null && cell.verdict !== "works" && !cell.reason.startsWith(CONTAINED);
}

/** So the engine begins the reason of a cell in which a hostile driver got nowhere. */
const CONTAINED = "contained: ";

/** The cell that a reader should hear of first; undefined if nothing is bad. */
export function worstCell(cells: readonly Cell[]): CellRecord | undefined {
  const bad = cells.filter(isBad);
  return bad.sort((a, b) => compareVerdicts(b.verdict, a.verdict) || byEvidence(a, b))[0];
}
