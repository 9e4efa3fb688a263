/**
 * The matrix as text: one block a guest; in it one grid for each way to reach a device, rows VMMs, columns devices; in
 * each cell the verdict, with the number of its reason, which stands beneath. Pure: cells in, lines out.
 * Must not know what a terminal is; colours come in as a function.
 */
import { type Cell, type CellRecord, VERDICTS, type Verdict } from "./record.js";
import { columnsOf, counted, padEnd, wrap } from "./text.js";
import { VERDICT_TEXTS } from "./verdicts.js";

type Transport = CellRecord["config"]["transport"];

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
  const reach = new Reach(cells);
  const blocks = unique(cells.map(({ guest }) => guest)).map((guest) =>
    new Block(
      guest,
      cells.filter((cell) => cell.guest === guest),
      reach,
      options,
    ).lines(),
  );
  const legend = wrap(LEGEND, options.width).map((line) => (options.paint ?? PLAIN)("faint", line));
  return [...blocks.flatMap((lines) => [...lines, ""]), ...legend];
}

/** `works 12 · refused 3`, worst last. */
export function verdictCounts(cells: readonly Cell[], paint: Paint = PLAIN): string {
  return VERDICTS.flatMap((verdict) => {
    const count = cells.filter((cell) => cell.verdict === verdict).length;
    return count === 0 ? [] : [paint(verdict, `${verdict} ${count}`)];
  }).join(" · ");
}

/** What the cells that ran tell about who can reach whom, whichever guest it was. */
class Reach {
  readonly #transports = new Map<string, Transport>();
  readonly #devices = new Set<string>();

  constructor(cells: readonly Cell[]) {
    for (const cell of cells) {
      if (cell.verdict === null) continue;
      this.#transports.set(cell.vmm, cell.config.transport);
      this.#devices.add(`${cell.config.transport} ${cell.device}`);
    }
  }

  transportOf(vmm: string): Transport | undefined {
    return this.#transports.get(vmm);
  }

  /** If they did not run together, then because of the guest. */
  reaches({ vmm, device }: Cell): boolean {
    return this.#devices.has(`${this.transportOf(vmm)} ${device}`);
  }
}

/** One guest. */
class Block {
  readonly #notes = new Notes();

  constructor(
    private readonly guest: string,
    private readonly cells: readonly Cell[],
    private readonly reach: Reach,
    private readonly options: TableOptions,
  ) {}

  lines(): string[] {
    const { width } = this.options;
    const paint = this.options.paint ?? PLAIN;
    const sentence = this.options.sentenceOf?.(this.guest);
    const heading = wrap(`Guest ${this.guest}${sentence === undefined ? "" : `: ${sentence}`}`, width);
    const shown = (["kernel", "vhost-user"] as const).map((transport) => this.#cellsBy(transport));
    const [kernel, vhostUser] = shown;
    return [
      ...heading.map((line) => paint("heading", line)),
      ...this.#grids("over ioctls", kernel),
      ...this.#grids("over vhost-user", vhostUser),
      ...this.#notes.lines(width, paint),
      ...this.#notApplicable(new Set(shown.flat())),
    ];
  }

  /** The rows and columns in which anything ran. */
  #cellsBy(transport: Transport): Cell[] {
    const ran = this.cells.filter((cell) => cell.verdict !== null && cell.config.transport === transport);
    const vmms = new Set(ran.map(({ vmm }) => vmm));
    const devices = new Set(ran.map(({ device }) => device));
    return this.cells.filter(
      ({ vmm, device }) => vmms.has(vmm) && devices.has(device) && this.reach.transportOf(vmm) === transport,
    );
  }

  /** As many grids side by side as columns fit, the rest below. */
  #grids(title: string, cells: readonly Cell[]): string[] {
    if (cells.length === 0) return [];
    const vmms = unique(cells.map(({ vmm }) => vmm));
    const labels = [title, ...vmms];
    const labelWidth = Math.max(...labels.map(columnsOf));
    const columns = unique(cells.map(({ device }) => device)).map((device) =>
      this.#column(
        device,
        vmms.map((vmm) => cells.find((cell) => cell.vmm === vmm && cell.device === device)),
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

  /** Whole rows that are not shown, and points in those that are; each reason once. */
  #notApplicable(shown: ReadonlySet<Cell>): string[] {
    const shownVmms = new Set([...shown].map(({ vmm }) => vmm));
    const byReason = new Map<string, Set<string>>();
    const add = (reason: string, what: string) => {
      const found = byReason.get(reason) ?? new Set();
      byReason.set(reason, found.add(what));
    };
    for (const vmm of unique(this.cells.map((cell) => cell.vmm))) {
      const row = this.cells.filter((cell) => cell.vmm === vmm);
      if (!shownVmms.has(vmm)) {
        const reachable = row.filter((cell) => this.reach.reaches(cell));
        for (const { reason } of reachable.length === 0 ? row : reachable) add(reason, vmm);
        continue;
      }
      for (const cell of row) {
        if (shown.has(cell) && cell.verdict === null) add(cell.reason, `${vmm} with ${cell.device}`);
      }
    }
    const { width, paint = PLAIN } = this.options;
    const lines = [...byReason].flatMap(([reason, whom]) =>
      wrap(`${NOT_APPLICABLE} ${[...whom].join(", ")}: ${reason}`, width, { first: INDENT, further: "    " }),
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

/** Columns in groups that fit `width`; one column at least. */
function fitting(columns: readonly Column[], width: number): Column[][] {
  const groups: Column[][] = [];
  let left = 0;
  for (const column of columns) {
    const needed = GAP.length + column.width;
    if (groups.length === 0 || needed > left) {
      groups.push([]);
      left = width;
    }
    groups[groups.length - 1].push(column);
    left -= needed;
  }
  return groups;
}

function unique(values: readonly string[]): string[] {
  return [...new Set(values)];
}

/** `1904 combinations: 1092 ran, 812 do not apply`. */
export function countOfCells(cells: readonly Cell[]): string {
  const ran = cells.filter(({ verdict }) => verdict !== null).length;
  const rest = cells.length - ran;
  return `${counted(cells.length, "combination")}: ${ran} ran, ${rest} ${rest === 1 ? "does" : "do"} not apply`;
}
