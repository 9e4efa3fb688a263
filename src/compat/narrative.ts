/**
 * The story of one cell as plain text: what was assumed, what happened in which order, where belief and fact part, and
 * what came of it. Pure. Must not know where the text goes: a terminal, a mail.
 */
import { type Actor, type Cell, type CellConfig, type CellRecord, cellName, type Step } from "./record.js";
import type { Paint } from "./table.js";
import { padEnd, wrap } from "./text.js";
import { VERDICT_TEXTS } from "./verdicts.js";

export interface NarrativeOptions {
  readonly width: number;
  readonly paint?: Paint;
  /** How each of the three is to be introduced: program and version. */
  readonly programOf?: (actor: Actor) => string | undefined;
  /** The command that runs this cell again. */
  readonly again?: string;
}

const ACTORS = ["guest", "vmm", "device"] as const;
const ACTOR_NAMES: Readonly<Record<Actor, string>> = { guest: "guest", vmm: "VMM", device: "device" };
const LABEL_WIDTH = 12;
const PLAIN: Paint = (_, text) => text;

const EVIDENCE: Readonly<Record<Cell["evidence"], string>> = {
  executed: "executed: all three were checked against the real programs",
  derived: "derived: one of the three, at least, is as its source says, and nobody has run it here",
  proposed: "proposed: one of the three, at least, is a proposal that nobody has built",
};

/** The whole story; of a cell that does not apply, why. */
export function narrative(cell: Cell, options: NarrativeOptions): string[] {
  const { width, paint = PLAIN } = options;
  const row = (label: string, text: string) =>
    wrap(text, width, { first: padEnd(label, LABEL_WIDTH), further: " ".repeat(LABEL_WIDTH) });
  const head = [
    paint("heading", cellName(cell)),
    "",
    ...ACTORS.flatMap((actor) => {
      const program = options.programOf?.(actor);
      return row(ACTOR_NAMES[actor], program === undefined ? cell[actor] : `${cell[actor]}: ${program}`);
    }),
  ];
  const sources = cell.sources.flatMap((source, index) => row(index === 0 ? "sources" : "", source));
  const again = options.again === undefined ? [] : row("again", options.again);
  if (cell.verdict === null) {
    return [
      ...head,
      ...row("verdict", `none: this combination does not apply, since ${cell.reason}`),
      ...sources,
    ];
  }
  return [
    ...head,
    ...row("assumed", assumptions(cell.config)),
    ...coloured(row("verdict", `${cell.verdict}: ${cell.reason}`), cell.verdict, paint),
    "",
    ...wrap(cell.story.summary, width),
    "",
    ...steps(cell.story.steps, width, paint, cell.verdict),
    "",
    ...beliefs(cell, width),
    "",
    ...row("meaning", VERDICT_TEXTS[cell.verdict].meaning),
    ...row("evidence", EVIDENCE[cell.evidence]),
    ...sources,
    ...again,
  ];
}

/** What each side held to be true in the end. */
export function beliefs({ story }: CellRecord, width: number): string[] {
  return [
    "What each side believes bit 33 to mean:",
    ...ACTORS.flatMap((actor) =>
      wrap(story.beliefs[actor], width, { first: `  ${ACTOR_NAMES[actor].padEnd(LABEL_WIDTH - 2)}` }),
    ),
  ];
}

/** What was assumed, in one line. */
export function assumptions(config: CellConfig): string {
  const { protectedMemory, iommuPlatform, viommu, unmapping, transport, deviceOptions } = config;
  return [
    transport === "kernel" ? "kernel vhost (ioctls)" : "vhost-user",
    protectedMemory ? "protected memory" : "ordinary memory",
    viommu ? `a vIOMMU, ${unmapping} unmapping` : "no vIOMMU",
    `the device ${iommuPlatform ? "is" : "is not"} to be used through the DMA API (iommu_platform=${iommuPlatform ? "on" : "off"})`,
    ...(deviceOptions === "" ? [] : [`device options ${deviceOptions}`]),
  ].join("; ");
}

const STEP_HEADING = "What happened, in order:";
const PARTING = "HERE BELIEF AND FACT PART";

/** Numbered, each with who did it; the point of parting stands out. */
export function steps(
  all: readonly Step[],
  width: number,
  paint: Paint = PLAIN,
  tone: CellRecord["verdict"] = "faults",
): string[] {
  const numberWidth = String(all.length).length + 1;
  const lines = all.flatMap((step, index) => {
    const verb = step.kind === "belief" ? "believes: " : "";
    const actor = ACTOR_NAMES[step.actor].padEnd("device".length);
    const first = `${String(index + 1).padStart(numberWidth)}  ${actor}  `;
    const text = wrap(`${verb}${step.text}`, width, { first });
    if (step.parting !== true) return text;
    const arrow = `${">".repeat(numberWidth)}  ${PARTING}`;
    return [paint(tone, arrow), ...text.map((line) => paint(tone, line))];
  });
  return [STEP_HEADING, ...lines];
}

function coloured(lines: readonly string[], tone: CellRecord["verdict"], paint: Paint): string[] {
  return lines.map((line) => {
    const text = line.slice(LABEL_WIDTH);
    return line.slice(0, LABEL_WIDTH) + paint(tone, text);
  });
}
