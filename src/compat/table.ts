/**
 * The matrix as text: one block a guest; in it one grid for each way to reach a device, rows VMMs, columns devices; in
 * each cell the verdict, with the number of its reason, which stands beneath. Pure: cells in, lines out.
 * Must not know what a terminal is; colours come in as a function.
 */
import { type Block, type Grid, layOut } from "./layout.js";
import { type Cell, type CellRecord, VERDICTS, type Verdict } from "./record.js";
import { columnsOf, counted, padEnd, wrap } from "./text.js";
import { VERDICT_TEXTS } from "./verdicts.js";

/** What a piece of text is, for whoever wants to colour it. */
export type Tone = Verdict | "heading" | "faint";
export type Paint = (tone: Tone, text: string) => string;

export interface TableOptions {
  /** How wide a line may be. */
  readonly width: number;
  readonly paint?: Paint;
  /** A sentence for a guest's heading. */
  readonly sentenceOf?: (guest: string) => string | undefined;
}

const GAP = "  ";
const INDENT = "  ";
const NOT_APPLICABLE = "·";
/** A name of this width, `linux-5.15`, stands in one piece above however narrow a column. */
const UNBROKEN_NAME = 10;

/** Behind a verdict: what stands behind it. Most of them are derived, and bear no mark. */
export const EVIDENCE_MARKS: Readonly<Record<Cell["evidence"], string>> = {
  executed: "*",
  derived: "",
  proposed: "?",
};

const LEGEND =
  "* each of the three was checked against the real program; ? one of them is a proposal that nobody has built; no mark: one of them, at least, is as its source says. · does not apply.";

const PLAIN: Paint = (_, text) => text;

/** All blocks, an empty line between two, and what the signs mean. */
export function table(cells: readonly Cell[], options: TableOptions): string[] {
  const blocks = layOut(cells).map((block) => new BlockText(block, options).lines());
  const legend = wrap(LEGEND, options.width).map((line) => (options.paint ?? PLAIN)("faint", line));
  return [...blocks.flatMap((lines) => [...lines, ""]), ...legend];
}

const NO_BREAK = "\u00a0";

/** `works 12 · refused 3`, worst last. */
export function verdictCounts(cells: readonly Cell[], width: number, paint: Paint = PLAIN): string[] {
  const counts = VERDICTS.flatMap((verdict) => {
    const count = cells.filter((cell) => cell.verdict === verdict).length;
    return count === 0 ? [] : [{ verdict, text: `${verdict} ${count}` }];
  });
  // A verdict stays with its number. Painted last: colours have no width.
  const unbroken = counts.map(({ text }) => text.replace(" ", NO_BREAK)).join(" · ");
  return wrap(unbroken, width).map((line) =>
    counts.reduce(
      (told, { verdict, text }) => told.replace(text, paint(verdict, text)),
      line.replaceAll(NO_BREAK, " "),
    ),
  );
}

/** One guest. */
class BlockText {
  readonly #notes = new Notes();

  constructor(
    private readonly block: Block,
    private readonly options: TableOptions,
  ) {}

  lines(): string[] {
    const { width, paint = PLAIN, sentenceOf } = this.options;
    const { guest, grids } = this.block;
    const sentence = sentenceOf?.(guest);
    const heading = wrap(`Guest ${guest}${sentence === undefined ? "" : `: ${sentence}`}`, width);
    return [
      ...heading.map((line) => paint("heading", line)),
      ...grids.flatMap((grid) => this.#grid(grid)),
      ...this.#notes.lines(width, paint),
      ...this.#absences(),
    ];
  }

  /** As many columns beside each other as fit, the rest below. */
  #grid({ transport, vmms, devices, at }: Grid): string[] {
    const title = transport === "kernel" ? "over ioctls" : "over vhost-user";
    const labelWidth = Math.max(...[title, ...vmms].map(columnsOf));
    const columns = devices.map((device) =>
      this.#column(
        device,
        vmms.map((vmm) => at(vmm, device)),
      ),
    );
    const lines: string[] = [];
    for (const some of fitting(columns, this.options.width - INDENT.length - labelWidth)) {
      const height = Math.max(...some.map(({ header }) => header.length));
      const rows = [
        // Names stand on their columns, however many lines they have.
        ...Array.from({ length: height }, (_, line) => ({
          label: line === height - 1 ? title : "",
          texts: some.map(({ header }) => ({
            tone: "faint" as const,
            text: header[line - height + header.length] ?? "",
          })),
          tone: "faint" as const,
        })),
        ...vmms.map((label, row) => ({
          label,
          texts: some.map(({ entries }) => entries[row]),
          tone: undefined,
        })),
      ];
      lines.push("", ...rows.map((row) => this.#row(row, some, labelWidth)));
    }
    return lines;
  }

  #column(device: string, cells: readonly (Cell | undefined)[]): Column {
    const entries = cells.map((cell): Entry => {
      if (cell === undefined || cell.verdict === null) return { tone: "faint", text: NOT_APPLICABLE };
      const note = cell.verdict === "works" ? "" : ` ${this.#notes.numberOf(cell)}`;
      const text = `${VERDICT_TEXTS[cell.verdict].word}${EVIDENCE_MARKS[cell.evidence]}${note}`;
      return { tone: cell.verdict, text };
    });
    const widest = Math.max(...entries.map(({ text }) => columnsOf(text)));
    const header = headerLines(device, Math.max(widest, UNBROKEN_NAME));
    return { entries, header, width: Math.max(widest, ...header.map(columnsOf)) };
  }

  #row(
    { label, texts, tone }: { label: string; texts: readonly Entry[]; tone: Tone | undefined },
    columns: readonly Column[],
    labelWidth: number,
  ): string {
    const paint = this.options.paint ?? PLAIN;
    const painted = texts.map((entry, index) => {
      const spaces = index === texts.length - 1 ? 0 : columns[index].width - columnsOf(entry.text);
      return GAP + (entry.text === "" ? "" : paint(entry.tone, entry.text)) + " ".repeat(spaces);
    });
    const padded = padEnd(label, labelWidth);
    return `${INDENT}${tone === undefined ? padded : paint(tone, padded)}${painted.join("")}`.trimEnd();
  }

  /** Each reason once. */
  #absences(): string[] {
    const { width, paint = PLAIN } = this.options;
    const lines = this.block.absences.flatMap(({ whom, reason }) =>
      wrap(`${NOT_APPLICABLE} ${whom.join(", ")}: ${reason}`, width, { first: INDENT, further: "    " }),
    );
    return lines.length === 0 ? [] : ["", ...lines.map((line) => paint("faint", line))];
  }
}

interface Entry {
  readonly tone: Tone;
  readonly text: string;
}

interface Column {
  readonly header: readonly string[];
  /** A row each. */
  readonly entries: readonly Entry[];
  readonly width: number;
}

/** The reasons of a block, numbered as they are met. */
class Notes {
  readonly #byReason = new Map<
    string,
    { readonly number: number; readonly verdict: Verdict; readonly reason: string }
  >();

  numberOf({ verdict, reason }: CellRecord): number {
    const key = `${verdict} ${reason}`;
    const known = this.#byReason.get(key);
    if (known !== undefined) return known.number;
    const number = this.#byReason.size + 1;
    this.#byReason.set(key, { number, verdict, reason });
    return number;
  }

  lines(width: number, paint: Paint): string[] {
    const notes = [...this.#byReason.values()];
    if (notes.length === 0) return [];
    const numberWidth = String(notes.length).length;
    const wordWidth = Math.max(...notes.map(({ verdict }) => VERDICT_TEXTS[verdict].word.length));
    return [
      "",
      ...notes.flatMap(({ number, verdict, reason }) => {
        const { word } = VERDICT_TEXTS[verdict];
        const first = `${INDENT}${String(number).padStart(numberWidth)} ${word.padEnd(wordWidth)}${GAP}`;
        const [top, ...rest] = wrap(reason, width, { first });
        const before = first.length - wordWidth - GAP.length;
        const after = before + word.length;
        return [top.slice(0, before) + paint(verdict, word) + top.slice(after), ...rest];
      }),
    ];
  }
}

/** A name in as many lines as it takes to be no wider than its column, broken behind dashes. */
function headerLines(name: string, width: number): string[] {
  const lines: string[] = [];
  for (const piece of name.split(/(?<=-)/)) {
    const last = lines.length - 1;
    if (last >= 0 && columnsOf(lines[last] + piece) <= width) lines[last] += piece;
    else lines.push(piece);
  }
  return lines;
}

/** Columns in groups that fit `width`, of one column at least: as few groups as can be, and about equally long. */
function fitting(columns: readonly Column[], width: number): Column[][] {
  const groups = filled(columns, width, columns.length);
  return filled(columns, width, Math.ceil(columns.length / groups.length));
}

function filled(columns: readonly Column[], width: number, most: number): Column[][] {
  const groups: Column[][] = [];
  let left = 0;
  for (const column of columns) {
    const needed = GAP.length + column.width;
    if (groups.length === 0 || needed > left || groups[groups.length - 1].length === most) {
      groups.push([]);
      left = width;
    }
    groups[groups.length - 1].push(column);
    left -= needed;
  }
  return groups;
}

/** `1904 combinations: 1092 ran, 812 do not apply`. */
export function countOfCells(cells: readonly Cell[]): string {
  const ran = cells.filter(({ verdict }) => verdict !== null).length;
  const rest = cells.length - ran;
  return `${counted(cells.length, "combination")}: ${ran} ran, ${rest} ${rest === 1 ? "does" : "do"} not apply`;
}
