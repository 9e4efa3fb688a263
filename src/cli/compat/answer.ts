/**
 * Answers to the questions of `bit33 compat`: runs what a request needs, prints it, writes the files that were asked
 * for, and says with which status to end. Must not know how the command line looked.
 */
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { changeLines, restLines } from "../../compat/changes.js";
import { type Change, compareCells, worstCell } from "../../compat/compare.js";
import { page } from "../../compat/html.js";
import { mbox } from "../../compat/mail.js";
import {
  changeMail,
  type MailText,
  matrixMail,
  type Side,
  shellWord,
  storyMail,
} from "../../compat/mail-text.js";
import type { RunMatrix } from "../../compat/matrix.js";
import { narrative } from "../../compat/narrative.js";
import type { Cell, CellRecord } from "../../compat/record.js";
import { runMatrix } from "../../compat/run-matrix.js";
import { countOfCells, table, verdictCounts } from "../../compat/table.js";
import { counted } from "../../compat/text.js";
import { ConfigError } from "../../config/errors.js";
import type { Profile } from "../../profiles/profile.js";
import { EXIT_FAILURE, EXIT_OK, processTerminal, type Terminal } from "../terminal.js";
import { UsageError } from "../usage-error.js";
import { packageVersion } from "../version.js";
import { againCommand, explainCommand, fileOptions } from "./again.js";
import type { Choice } from "./choices.js";
import type { CompareRequest, ExplainRequest, MatrixRequest } from "./request.js";
import { processScreen, type Screen } from "./screen.js";
import { PLACEHOLDER, senderFrom } from "./sender.js";

/** What an answer is made with; a test brings its own. */
export interface Surroundings {
  readonly terminal: Terminal;
  readonly screen: Screen;
  readonly run: RunMatrix;
  readonly env: NodeJS.ProcessEnv;
  readonly now: () => Date;
}

export function processSurroundings(): Surroundings {
  return {
    terminal: processTerminal,
    screen: processScreen(processTerminal.complain),
    run: runMatrix,
    env: process.env,
    now: () => new Date(),
  };
}

const version = `bit33 ${packageVersion()}`;

export async function answerMatrix(request: MatrixRequest, around: Surroundings): Promise<number> {
  const { matrix, json, html, mail, failOn } = request;
  const { terminal, screen } = around;
  const start = performance.now();
  const cells = await run(request, around);
  const seconds = (performance.now() - start) / 1000;
  const sentenceOf = (guest: string) => matrix.guests.find(({ name }) => name === guest)?.summary;
  if (json) for (const cell of cells) terminal.print(jsonLine(cell, false));
  else {
    for (const line of table(cells, { ...screen, sentenceOf })) terminal.print(line);
    for (const line of closing(request, cells, seconds, screen)) terminal.print(line);
  }
  const command = againCommand(request);
  if (html !== undefined) {
    const programOf = (kind: "vmm" | "device", name: string) => {
      const profiles: readonly Profile[] = kind === "vmm" ? matrix.vmms : matrix.devices;
      return profiles.find((profile) => profile.name === name)?.program;
    };
    const text = page(cells, {
      version,
      command: command.map(shellWord).join(" "),
      date: around.now(),
      sentenceOf,
      programOf,
      filesOf: (cell) => fileOptions(request, cell).map(shellWord).join(" "),
    });
    write("--html", html, text);
    terminal.complain(`bit33: wrote the page ${html}`);
  }
  if (mail !== undefined) {
    const sideOf = (name: string) => {
      const profile = matrix.devices.find((device) => device.name === name);
      return profile === undefined ? undefined : { ...profile, label: name };
    };
    writeMail(mail, matrixMail(cells, sideOf, { command, version }), around);
  }
  // A gate that lets everything pass since nothing came is worse than none.
  if (failOn.size > 0 && cells.every(({ verdict }) => verdict === null))
    throw new UsageError("nothing-to-judge", "no combination applies; name others", "--fail-on");
  return cells.some(({ verdict }) => verdict !== null && failOn.has(verdict)) ? EXIT_FAILURE : EXIT_OK;
}

export async function answerExplain(request: ExplainRequest, around: Surroundings): Promise<number> {
  const { parts, json, mail } = request;
  const { terminal, screen } = around;
  const matrix = { guests: [parts.guest], vmms: [parts.vmm], devices: [parts.device] };
  const [cell] = await around.run(matrix, { threads: 1 });
  const command = againCommand(request);
  if (json) terminal.print(jsonLine(cell, true));
  else {
    const again = command.map(shellWord).join(" ");
    const programOf = (actor: keyof typeof parts) => parts[actor].program;
    for (const line of narrative(cell, { ...screen, programOf, again })) terminal.print(line);
  }
  if (mail === undefined) return EXIT_OK;
  if (cell.verdict === null) {
    throw new UsageError("nothing-to-mail", `this combination does not apply: ${cell.reason}`, "--mail");
  }
  writeMail(mail, storyMail(cell, { ...parts.device, label: cell.device }, { command, version }), around);
  return EXIT_OK;
}

export async function answerCompare(request: CompareRequest, around: Surroundings): Promise<number> {
  const { changed, json, mail } = request;
  const { terminal, screen } = around;
  const cells = await run(request, around);
  const { before, after } = halves(cells, request);
  const comparison = compareCells(before, after);
  const { worse, better } = comparison;
  const sides = { before: side(request.before), after: side(request.after), changed };
  if (json) for (const line of changesJson(worse, better)) terminal.print(line);
  else {
    const [from, to] = [sides.before.label, sides.after.label];
    const options = { ...screen, changed };
    const parts = [
      changeLines(`Worse with ${to} than with ${from}`, worse, options),
      changeLines(`Better with ${to} than with ${from}`, better, options),
      restLines(comparison, from, to, screen.width),
    ];
    const shown = parts.filter((lines) => lines.length > 0);
    for (const [index, lines] of shown.entries()) {
      if (index > 0) terminal.print("");
      for (const line of lines) terminal.print(line);
    }
    const [first] = [...worse, ...better];
    if (first !== undefined) {
      const explain = explainCommand(request, first.after).map(shellWord).join(" ");
      terminal.print(`\n${explain} tells how it comes about.`);
    }
  }
  if (mail !== undefined) {
    const context = { command: againCommand(request), version };
    writeMail(mail, changeMail(comparison, sides, context), around);
  }
  if (worse.length + better.length + comparison.unchanged === 0)
    throw new UsageError("nothing-to-compare", "no combination applies to both", "--before, --after");
  return worse.length > 0 ? EXIT_FAILURE : EXIT_OK;
}

async function run(
  request: MatrixRequest | CompareRequest,
  { run, screen }: Surroundings,
): Promise<readonly Cell[]> {
  const { progress } = screen;
  const threads = request.threads === undefined ? {} : { threads: request.threads };
  try {
    return await run(request.matrix, { ...threads, progress: (done, total) => progress.tell(done, total) });
  } finally {
    progress.end();
  }
}

/** The last lines of a matrix. */
function closing(
  request: MatrixRequest,
  cells: readonly Cell[],
  seconds: number,
  { paint, width }: Screen,
): string[] {
  const worst = worstCell(cells);
  const example = worst ?? cells.find(({ verdict }) => verdict !== null);
  return [
    "",
    `${countOfCells(cells)}, in ${seconds.toFixed(1)} s.`,
    ...(example === undefined ? [] : verdictCounts(cells, width, paint)),
    ...(example === undefined
      ? []
      : [
          "",
          "The story of a combination, such as this one:",
          `  ${explainCommand(request, example).map(shellWord).join(" ")}`,
        ]),
  ];
}

/** The cells of the two sides, each in the matrix's order. */
function halves(cells: readonly Cell[], { changed, matrix }: CompareRequest) {
  // By position: both may have the same name, if one is an edited copy of the other.
  const sideAt = (index: number) =>
    changed === "device" ? index % 2 : Math.floor(index / matrix.devices.length) % 2;
  return {
    before: cells.filter((_, index) => sideAt(index) === 0),
    after: cells.filter((_, index) => sideAt(index) === 1),
  };
}

function side({ word, profile }: Choice): Side {
  return {
    label: word !== profile.name ? `${profile.name} (${word})` : profile.name,
    program: profile.program,
    source: profile.source,
  };
}

function jsonLine(cell: Cell, withStory: boolean): string {
  const { guest, vmm, device, verdict, reason, evidence, sources } = cell;
  const ran = cell.verdict === null ? {} : { config: cell.config };
  const told = cell.verdict === null || !withStory ? {} : { story: cell.story };
  return toJson({ guest, vmm, device, verdict, reason, ...ran, evidence, sources, ...told });
}

function changesJson(worse: readonly Change[], better: readonly Change[]): string[] {
  const brief = ({ device, vmm, verdict, reason, evidence }: CellRecord) => ({
    vmm,
    device,
    verdict,
    reason,
    evidence,
  });
  const line = (change: "worse" | "better") => (each: Change) =>
    toJson({ change, guest: each.after.guest, before: brief(each.before), after: brief(each.after) });
  return [...worse.map(line("worse")), ...better.map(line("better"))];
}

/** A feature word that found its way into a record is shown as one. */
function toJson(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) =>
    typeof item === "bigint" ? `0x${item.toString(16)}` : item,
  );
}

function writeMail(file: string, text: MailText, { env, now, terminal }: Surroundings): void {
  const from = senderFrom(env);
  const date = now();
  const unique = `${date.toISOString().replace(/\D/g, "").slice(0, 14)}.${randomBytes(6).toString("hex")}`;
  write("--mail", file, mbox({ ...text, from, date, unique, userAgent: version.replace(" ", "/") }));
  const edit =
    from === PLACEHOLDER ? "; put your name and address into its From line first (or set EMAIL)" : "";
  terminal.complain(
    `bit33: wrote a mail of ${counted(text.body.length, "line")} to ${file}; read it, then: git send-email --to=LIST ${shellWord(file)}${edit}`,
  );
}

function write(option: string, file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (cause) {
    const reason = cause instanceof Error && "code" in cause ? cause.code : String(cause);
    throw new ConfigError("file-unwritable", option, `${file} cannot be written (${reason})`, { cause });
  }
}
