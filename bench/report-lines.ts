/**
 * Reads the lines that the programs of this folder print: JSON, one object a line, of the kinds that KINDS knows. A line
 * that is none of them is refused with its place, so that nothing falls out of the report silently. Must not know what
 * the report says about a figure.
 */
import { CURVES, type CurvePoint } from "./curves-points.js";
import type { Machine } from "./machine.js";
import type { BenchRecord } from "./record.js";
import { isObject, problemOf, type Shape } from "./report-shape.js";
import { ROWS } from "./rows.js";
import { SIBLING_ROWS, type SiblingRecord } from "./siblings-rows.js";
import type { SoakSample, Trend, Verdict } from "./soak-verdict.js";
import type { TranslationRecord } from "./translation-rows.js";

/** A file of lines: its name is for people. */
export interface LineFile {
  readonly name: string;
  readonly text: string;
}

export interface SoakEnd {
  readonly verdict: Verdict;
  readonly minutes: number;
  readonly opened: number;
  readonly movedMiB: number;
  readonly reboots: number;
  readonly corrupt: number;
  readonly failures: number;
  /** Scenes that took longer than they may, for which the machine was too busy or nothing was to blame. */
  readonly late: number;
  readonly load: number;
  readonly seed: number;
  readonly trends: Readonly<Record<string, Trend>>;
}

export interface Results {
  /** Of each file, in the order given. */
  readonly machines: readonly { readonly file: string; readonly machine: Machine }[];
  readonly records: readonly BenchRecord[];
  readonly translation: readonly TranslationRecord[];
  readonly siblings: readonly SiblingRecord[];
  readonly curves: readonly CurvePoint[];
  readonly soakSamples: readonly SoakSample[];
  readonly soakEnd: SoakEnd | undefined;
}

export type ReportErrorCode = "not-json" | "unknown-line" | "bad-field" | "twice" | "no-machine";

/** A line that cannot be part of a report. */
export class ReportError extends Error {
  readonly code: ReportErrorCode;

  /** @param place `file:line`, or the file alone */
  constructor(code: ReportErrorCode, place: string, problem: string) {
    super(`${place}: ${problem}`);
    this.name = "ReportError";
    this.code = code;
  }
}

const BY_DEVICE = { ours: "number?", peer: "number?" } as const;
const BY_SIDE = { ...BY_DEVICE, floor: "number?" } as const;
const THREAD = { name: "text", busy: "number" } as const;
const ALSO_OFF = { ours: "number", off: "number" } as const;

const MACHINE: Shape = {
  cpu: "text",
  cores: "number",
  isVirtual: "flag",
  memoryMiB: "number",
  kernel: "text",
  governor: "text?",
  node: "text",
  peer: "text?",
  date: "text",
  commit: "text?",
  hasChanges: "flag?",
  loadBefore: "number?",
  note: "text?",
};

const RECORD: Shape = {
  row: "text",
  setting: "text",
  unit: "text",
  ...BY_SIDE,
  ratio: { peer: "number?", floor: "number?" },
  bar: { peer: "number?", floor: "number?", own: "number?" },
  met: "flag?",
  spread: BY_SIDE,
  rounds: "number",
  leftOut: "number",
  buffers: BY_DEVICE,
  deviceBusy: BY_DEVICE,
  driverBusy: BY_SIDE,
  hostBusy: BY_SIDE,
  threads: { ours: [THREAD], peer: [THREAD] },
  "parts?": "object",
};

const TRANSLATION: Shape = {
  row: "text",
  unit: "text",
  ...ALSO_OFF,
  ratio: { off: "number" },
  bar: { off: "number?" },
  met: "flag?",
  spread: ALSO_OFF,
  perMiB: { misses: "number", updates: "number", invalidations: "number" },
  time: { unmapping: "number", answering: "number", deviceCpu: "number", driverCpu: "number" },
  cpu: ALSO_OFF,
};

const SIBLING: Shape = {
  row: "text",
  setting: "text",
  unit: "text",
  ours: "number",
  peer: "number?",
  ratio: "number?",
  bar: "number",
  met: "flag?",
  spread: { ours: "number", peer: "number?" },
  rounds: "number",
};

const CURVE: Shape = {
  curve: "text",
  x: "number",
  unit: "text",
  value: "number",
  relative: "number",
  spread: "number",
};

const SOAK_SAMPLE: Shape = {
  sample: "number",
  seconds: "number",
  quiet: "flag",
  rssBytes: "number",
  privateBytes: "number",
  heapUsedBytes: "number",
  descriptors: "number",
};

const SOAK_END: Shape = {
  verdict: "text",
  minutes: "number",
  opened: "number",
  movedMiB: "number",
  reboots: "number",
  corrupt: "number",
  failures: "number",
  late: "number",
  load: "number",
  seed: "number",
  trends: "object",
};

type Line = Readonly<Record<string, unknown>>;

interface LineKind {
  readonly is: (line: Line) => boolean;
  readonly shape: Shape;
  /** What no two lines of a report may have in common. */
  readonly key: (line: Line) => string;
}

const KINDS = {
  machine: { is: (line) => "machine" in line, shape: { machine: MACHINE }, key: () => "machine" },
  translation: {
    is: ({ row }) => typeof row === "string" && row.startsWith("translation-"),
    shape: TRANSLATION,
    key: ({ row }) => String(row),
  },
  record: {
    is: ({ row }) => typeof row === "string" && Object.hasOwn(ROWS, row),
    shape: RECORD,
    key: ({ row, setting }) => `${row} (${setting})`,
  },
  sibling: {
    is: ({ row }) => typeof row === "string" && Object.hasOwn(SIBLING_ROWS, row),
    shape: SIBLING,
    key: ({ row, setting }) => `${row} (${setting})`,
  },
  curve: {
    is: ({ curve }) => typeof curve === "string" && Object.hasOwn(CURVES, curve),
    shape: CURVE,
    key: ({ curve, unit, x }) => `${curve} in ${unit} at ${x}`,
  },
  soakSample: {
    is: (line) => "sample" in line,
    shape: SOAK_SAMPLE,
    key: ({ sample }) => `sample ${sample} of a soak`,
  },
  soakEnd: { is: (line) => "verdict" in line, shape: SOAK_END, key: () => "the verdict of a soak" },
  // Told by the way; the verdict counts them.
  soakTrouble: {
    is: (line) => "trouble" in line,
    shape: { trouble: "text" },
    key: ({ trouble }) => String(trouble),
  },
} as const satisfies Record<string, LineKind>;
type KindName = keyof typeof KINDS;
const KIND_NAMES = Object.keys(KINDS) as KindName[];

/** Every file says once on what it was measured. Throws a ReportError. */
export function readResults(files: readonly LineFile[]): Results {
  const found = Object.fromEntries(KIND_NAMES.map((kind) => [kind, [] as Line[]])) as Record<
    KindName,
    Line[]
  >;
  const machines: { file: string; machine: Machine }[] = [];
  const places = new Map<string, string>();
  for (const { name, text } of files) {
    for (const [index, source] of text.split("\n").entries()) {
      if (source.trim() === "") continue;
      const place = `${name}:${index + 1}`;
      const line = parsed(source, place);
      const kind = kindOf(line, place);
      const key = kind === "machine" ? `the machine of ${name}` : KINDS[kind].key(line);
      const earlier = places.get(key);
      if (earlier !== undefined)
        throw new ReportError("twice", place, `${key} is there already, at ${earlier}: leave one out`);
      places.set(key, place);
      if (kind === "machine") machines.push({ file: name, machine: line.machine as Machine });
      found[kind].push(line);
    }
    if (machines.at(-1)?.file !== name)
      throw new ReportError(
        "no-machine",
        name,
        'no line says on what it was measured: add the one that "node build/bench/machine.js" prints there',
      );
  }
  // The shapes are checked, but for what nobody can get wrong by hand: units, names of threads.
  return {
    machines,
    records: found.record as unknown as BenchRecord[],
    translation: found.translation as unknown as TranslationRecord[],
    siblings: found.sibling as unknown as SiblingRecord[],
    curves: found.curve as unknown as CurvePoint[],
    soakSamples: found.soakSample as unknown as SoakSample[],
    soakEnd: found.soakEnd[0] as unknown as SoakEnd | undefined,
  };
}

function parsed(source: string, place: string): Line {
  let value: unknown;
  try {
    value = JSON.parse(source);
  } catch (cause) {
    throw new ReportError("not-json", place, `not JSON (${String(cause)}): ${excerpt(source)}`);
  }
  if (!isObject(value)) throw new ReportError("not-json", place, `not a JSON object: ${excerpt(source)}`);
  return value;
}

function kindOf(line: Line, place: string): KindName {
  const kind = KIND_NAMES.find((name) => KINDS[name].is(line));
  if (kind === undefined) {
    const name = (["row", "curve"] as const).find((key) => key in line);
    const what =
      name === undefined ? "a line of no known kind" : `no ${name} is called ${JSON.stringify(line[name])}`;
    throw new ReportError("unknown-line", place, `${what}: ${excerpt(JSON.stringify(line))}`);
  }
  const problem = problemOf(line, KINDS[kind].shape);
  if (problem !== undefined) throw new ReportError("bad-field", place, problem);
  return kind;
}

function excerpt(text: string): string {
  return text.length <= 80 ? text : `${text.slice(0, 80)}...`;
}
