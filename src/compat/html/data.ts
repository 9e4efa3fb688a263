/**
 * The stories of a page, as compact JSON: each text once, everything else points at it. Ten thousands of steps have a
 * few thousand different texts. Must not know how the page looks; script.ts reads this.
 */
import { assumptions } from "../narrative.js";
import { type Cell, cellName } from "../record.js";

/** What the page's script finds; numbers are indices into `texts`. */
export interface PageData {
  readonly texts: readonly string[];
  /** By `guest/vmm/device`. */
  readonly cells: Readonly<Record<string, PageCell>>;
}

export interface PageCell {
  readonly verdict: number;
  readonly reason: number;
  readonly evidence: number;
  readonly sources: readonly number[];
  readonly assumed: number;
  readonly summary: number;
  /** Options for the command that runs it again. */
  readonly files: number;
  /** Of guest, VMM and device. */
  readonly beliefs: readonly [number, number, number];
  /** Kind, actor, text, and 1 where belief and fact part. */
  readonly steps: readonly (readonly [number, number, number, 0 | 1])[];
}

export function pageData(cells: readonly Cell[], filesOf: (cell: Cell) => string = () => ""): PageData {
  const indices = new Map<string, number>();
  const index = (text: string): number => {
    const known = indices.get(text);
    if (known !== undefined) return known;
    indices.set(text, indices.size);
    return indices.size - 1;
  };
  const entries = cells.flatMap((cell): [string, PageCell][] => {
    if (cell.verdict === null) return [];
    const { story } = cell;
    const entry: PageCell = {
      verdict: index(cell.verdict),
      reason: index(cell.reason),
      evidence: index(cell.evidence),
      sources: cell.sources.map(index),
      assumed: index(assumptions(cell.config)),
      summary: index(story.summary),
      files: index(filesOf(cell)),
      beliefs: [index(story.beliefs.guest), index(story.beliefs.vmm), index(story.beliefs.device)],
      steps: story.steps.map(({ kind, actor, text, parting }) => [
        index(kind),
        index(actor),
        index(text),
        parting === true ? 1 : 0,
      ]),
    };
    return [[cellName(cell), entry]];
  });
  return { texts: [...indices.keys()], cells: Object.fromEntries(entries) };
}

/** JSON that may stand within a script element: nothing in it can end the element or open a comment. */
export function scriptSafeJson(value: unknown): string {
  return JSON.stringify(value)
    .replaceAll("<", "\\u003c")
    .replaceAll("\u2028", "\\u2028")
    .replaceAll("\u2029", "\\u2029");
}
