/**
 * What a mail about the matrix says, in lines of 75 columns: what changed or was found, who breaks, the story of the
 * worst cell, how to reproduce it, and the line for the kernel's regression tracker. Pure.
 * Must not know about headers (mail.ts).
 */
import { type Changed, changeLines, restLines } from "./changes.js";
import { type Change, type Comparison, isBad, worstCell } from "./compare.js";
import { MAIL_WIDTH } from "./mail.js";
import { assumptions, beliefs, steps } from "./narrative.js";
import { type Cell, type CellRecord, cellName, compareVerdicts, type Verdict } from "./record.js";
import { countOfCells, EVIDENCE_MARKS, verdictCounts } from "./table.js";
import { counted, wrap } from "./text.js";

export interface MailText {
  readonly subject: string;
  readonly body: readonly string[];
}

/** One side of a comparison. */
export interface Side {
  /** As the user named it. */
  readonly label: string;
  readonly program: string;
  readonly source: readonly string[];
}

export interface MailContext {
  /** The arguments that make this result again: `["bit33", "compat", "--before", …]`. */
  readonly command: readonly string[];
  /** `bit33 0.1.0`. */
  readonly version: string;
}

const METHOD =
  "Each combination was run, not looked up: a guest's driver, a VMM's side of vhost and a device, each as its profile says, on real rings in shared memory.";

const MARKS = `${EVIDENCE_MARKS.executed} each of the three was checked against the real program; ${EVIDENCE_MARKS.proposed} one of them is a proposal; no mark: one of them, at least, is as its source says.`;

/** The mail about a change of device or VMM. */
export function changeMail(
  comparison: Comparison,
  { before, after, changed }: { readonly before: Side; readonly after: Side; readonly changed: Changed },
  context: MailContext,
): MailText {
  const { worse, better } = comparison;
  const total = counted(worse.length + better.length + comparison.unchanged, "combination");
  const partner = changed === "device" ? "VMM" : "device";
  const options = { changed, width: MAIL_WIDTH };
  const [worst] = worse;
  const [first] = better;
  return {
    subject: changeSubject(worst, first, before, after),
    body: [
      ...wrap(
        `Of ${total} of guest and ${partner}, going from ${before.label} to ${after.label} makes ${worse.length} worse and ${better.length} better.`,
        MAIL_WIDTH,
      ),
      "",
      ...wrap(before.program, MAIL_WIDTH, { first: "  before: " }),
      ...wrap(after.program, MAIL_WIDTH, { first: "  after:  " }),
      "",
      ...section(changeLines("Worse", worse, options)),
      ...section(changeLines("Better", better, options)),
      ...restLines(comparison, before.label, after.label, MAIL_WIDTH),
      "",
      ...(worst === undefined ? [] : section(worstStory(worst.after, worst.before))),
      ...ending(context, worst?.after),
      ...(worst === undefined ? [] : tracked(introduction(after, before))),
    ],
  };
}

/** The mail about one cell. @param device the one whose source may name the commit to blame */
export function storyMail(cell: CellRecord, device: Side, context: MailContext): MailText {
  const bad = isBad(cell);
  const commit = bad ? commitOf(device.source) : undefined;
  return {
    subject: `${bad ? "[BUG] " : ""}${subsystem(cell)}: ${cellSentence(cell)}`,
    body: [...section(worstStory(cell)), ...ending(context, cell), ...tracked(commit)],
  };
}

/** The mail about a matrix. */
export function matrixMail(
  cells: readonly Cell[],
  deviceOf: (name: string) => Side | undefined,
  context: MailContext,
): MailText {
  const worst = worstCell(cells);
  const commit = worst && commitOf(deviceOf(worst.device)?.source ?? []);
  const bad = cells.filter(isBad).sort((a, b) => compareVerdicts(b.verdict, a.verdict));
  return {
    subject:
      worst === undefined
        ? `vsock: ${countOfCells(cells)}, and none is bad`
        : `[BUG] ${subsystem(worst)}: ${bad.length} combinations of guest, VMM and device do not work`,
    body: [
      ...wrap(`${countOfCells(cells)}.`, MAIL_WIDTH),
      "",
      ...verdictCounts(cells, MAIL_WIDTH - 2).map((line) => `  ${line}`),
      "",
      ...section(bad.length === 0 ? [] : ["Who breaks:", ...whoBreaks(bad)]),
      ...(worst === undefined ? [] : section(worstStory(worst))),
      ...ending(context, worst),
      ...tracked(commit),
    ],
  };
}

/** Each verdict and reason once, with the combinations that it concerns. */
function whoBreaks(cells: readonly CellRecord[]): string[] {
  const groups = new Map<string, CellRecord[]>();
  for (const cell of cells) {
    const key = `${cell.verdict}: ${cell.reason}`;
    groups.set(key, [...(groups.get(key) ?? []), cell]);
  }
  return [...groups].flatMap(([what, concerned]) => {
    return [
      "",
      ...wrap(what, MAIL_WIDTH, { first: "  ", further: "      " }),
      ...rowsOf(concerned).flatMap((row) => wrap(row, MAIL_WIDTH, { first: "    ", further: "        " })),
    ];
  });
}

/** `viommu-strict, viommu-lazy with qemu-4.2: linux-5.10`: guests of which the same is true share a row. */
function rowsOf(cells: readonly CellRecord[]): string[] {
  const devicesOf = new Map<string, { guest: string; vmm: string; devices: string[] }>();
  for (const { guest, vmm, device, evidence } of cells) {
    const key = `${guest}/${vmm}`;
    const pair = devicesOf.get(key) ?? { guest, vmm, devices: [] };
    pair.devices.push(device + EVIDENCE_MARKS[evidence]);
    devicesOf.set(key, pair);
  }
  const guestsOf = new Map<string, string[]>();
  for (const { guest, vmm, devices } of devicesOf.values()) {
    const key = `${vmm}: ${devices.join(", ")}`;
    guestsOf.set(key, [...(guestsOf.get(key) ?? []), guest]);
  }
  return [...guestsOf].map(([what, guests]) => `${guests.join(", ")} with ${what}`);
}

function changeSubject(
  worst: Change | undefined,
  best: Change | undefined,
  before: Side,
  after: Side,
): string {
  if (worst !== undefined) return `[REGRESSION] ${subsystem(worst.after)}: ${cellSentence(worst.after)}`;
  const step = `${before.label} -> ${after.label}`;
  if (best === undefined) return `vsock: ${step} changes no verdict`;
  return `${subsystem(best.after)}: ${step}: ${cellSentence(best.after)}`;
}

const VERBS: Readonly<Record<Verdict, string>> = {
  works: "works",
  refused: "is refused",
  "fails-to-start": "fails to start",
  stalls: "stalls",
  crashes: "crashes",
  faults: "touches private memory",
  corrupts: "corrupts data",
  exposes: "reaches withheld memory",
};

/** `linux-5.15 fails to start with crosvm-2022-07 and a restricted-dma guest`. */
function cellSentence({ guest, vmm, device, verdict }: CellRecord): string {
  return `${device} ${VERBS[verdict]} with ${vmm} and a ${guest} guest`;
}

function subsystem({ config }: CellRecord): string {
  return config.transport === "kernel" ? "vhost-vsock" : "vhost-user-vsock";
}

function worstStory(cell: CellRecord, before?: CellRecord): string[] {
  const was = before === undefined ? "" : ` (before: ${before.verdict})`;
  return [
    ...wrap(`${cellName(cell)}: ${cell.verdict}${was}, since ${cell.reason}.`, MAIL_WIDTH),
    "",
    ...wrap(cell.story.summary, MAIL_WIDTH),
    "",
    ...wrap(assumptions(cell.config), MAIL_WIDTH, { first: "Assumed: " }),
    "",
    ...steps(cell.story.steps, MAIL_WIDTH),
    "",
    ...beliefs(cell, MAIL_WIDTH),
    "",
    "Sources:",
    ...cell.sources.flatMap((source) => wrap(source, MAIL_WIDTH, { first: "  - " })),
  ];
}

function ending({ command, version }: MailContext, cell: CellRecord | undefined): string[] {
  return [
    "To reproduce:",
    "",
    ...commandLines(command),
    "",
    ...wrap(METHOD, MAIL_WIDTH),
    ...(cell === undefined ? [] : wrap(MARKS, MAIL_WIDTH)),
    "",
    `(${version})`,
  ];
}

/**
 * A shell command in lines that may be pasted: broken before options, or, where one is too long for a line, within it.
 * The shell takes a backslash and a newline for nothing at all, as long as the backslash is not behind another one.
 */
export function commandLines(command: readonly string[]): string[] {
  const indent = "  ";
  const hanging = `${indent}    `;
  const lines: string[] = [];
  let line = indent;
  for (const part of optionParts(command)) {
    const isFirst = line.trim() === "";
    if (!isFirst && line.length + 1 + part.length > LONGEST_COMMAND_LINE) {
      lines.push(`${line} \\`);
      line = hanging + part;
    } else {
      line += isFirst ? part : ` ${part}`;
    }
    while (line.length > LONGEST_COMMAND_LINE) {
      const end = LONGEST_COMMAND_LINE - (line[LONGEST_COMMAND_LINE - 1] === "\\" ? 1 : 0);
      lines.push(`${line.slice(0, end)}\\`);
      line = line.slice(end);
    }
  }
  return [...lines, line];
}

/** Room for ` \` behind it. */
const LONGEST_COMMAND_LINE = MAIL_WIDTH - 2;

/** Quoted words, each option together with its value. */
function optionParts(command: readonly string[]): string[] {
  const parts: string[] = [];
  let isOption = false;
  for (const word of command) {
    if (isOption) parts[parts.length - 1] += ` ${shellWord(word)}`;
    else parts.push(shellWord(word));
    isOption = !isOption && word.startsWith("--");
  }
  return parts;
}

/** A word as a shell reads it back. Every odd character gets a backslash, so that it can be broken anywhere else. */
export function shellWord(word: string): string {
  return word === "" ? "''" : word.replace(/[^\w@%+=:,./-]/gu, (character) => `\\${character}`);
}

/** For the kernel's regression tracker. Nothing is better than a commit or version that it would look for in vain. */
function tracked(introduced: string | undefined): string[] {
  return introduced === undefined ? [] : ["", `#regzbot introduced: ${introduced}`];
}

/** The commit that brought it, or the range of versions in which it came; undefined if neither is known. */
export function introduction(after: Side, before: Side): string | undefined {
  const known = new Set(before.source.flatMap(commitsIn));
  const commit = after.source.flatMap(commitsIn).find((found) => !known.has(found));
  const [from, to] = [versionOf(before), versionOf(after)];
  return commit ?? (from === undefined || to === undefined ? undefined : `${from}..${to}`);
}

function commitOf(source: readonly string[]): string | undefined {
  return source.flatMap(commitsIn)[0];
}

/** Abbreviated hashes too, as kernel mails use them; at least one letter and one digit, so that no number is one. */
function commitsIn(text: string): string[] {
  return (text.match(/\b[0-9a-f]{9,40}\b/g) ?? []).filter((word) => /[a-f]/.test(word) && /\d/.test(word));
}

/** `v5.15` of a name that ends in a version, or of its program. */
function versionOf({ label, program }: Side): string | undefined {
  const [version] = /\d+(?:\.\d+)+$/.exec(label) ?? /\d+(?:\.\d+)+/.exec(program) ?? [];
  return version === undefined ? undefined : `v${version}`;
}

function section(lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [...lines, ""];
}
