/**
 * What a command line of `bit33 compat` asks for, read and checked: one of five things, with the profiles that it is
 * about. Everything that is wrong is found here, before anything runs. Must not know how an answer looks.
 */
import { accessSync, constants } from "node:fs";
import { dirname } from "node:path";
import type { Changed } from "../../compat/changes.js";
import type { Matrix } from "../../compat/matrix.js";
import { VERDICTS, type Verdict } from "../../compat/record.js";
import { ConfigError } from "../../config/errors.js";
import { didYouMean } from "../../config/suggest.js";
import { KIND_NAMES, type ProfileKind, type ProfileOfKind } from "../../profiles/profile.js";
import type { GivenOption, OptionTable } from "../options.js";
import { UsageError } from "../usage-error.js";
import { builtinOf, type Choice, choose, chooseEither } from "./choices.js";

export const OPTIONS = {
  guest: { argument: "G", repeatable: true, help: "only this guest: a name, or a file of your own" },
  vmm: { argument: "V", repeatable: true, help: "only this VMM: a name, or a file of your own" },
  device: { argument: "D", repeatable: true, help: "only this device: a name, or a file of your own" },
  explain: { argument: "G/V/D", help: "tell the story of one combination" },
  before: { argument: "X", help: "compare two devices or two VMMs: the old one…" },
  after: { argument: "Y", help: "…and the new one; exit status 1 if a verdict got worse" },
  list: { help: "name all built-in profiles" },
  dump: { argument: "NAME", help: "print the file of a built-in profile" },
  json: { help: "print one JSON object a line" },
  html: { argument: "FILE", help: "write the matrix as one page that needs nothing else" },
  mail: { argument: "FILE", help: "write the result as a mail, in an mbox" },
  "fail-on": { argument: "VERDICT,…", help: "exit status 1 if a combination has such a verdict" },
  threads: { argument: "N", help: "how many threads (default: processors, 4 at most)" },
  help: { short: "h", help: "print this and exit" },
} as const satisfies OptionTable;

export type CompatOption = keyof typeof OPTIONS;
type Given = readonly GivenOption<CompatOption>[];

/** How any of the answers may be given. */
interface Form {
  readonly json: boolean;
  readonly mail: string | undefined;
  readonly threads: number | undefined;
}

export interface MatrixRequest extends Form {
  readonly kind: "matrix";
  readonly matrix: Matrix;
  /** What was chosen rather than left to be everything, in the order given. */
  readonly choices: readonly (readonly [CompatOption, Choice])[];
  readonly html: string | undefined;
  readonly failOn: ReadonlySet<Verdict>;
}

export interface ExplainRequest extends Form {
  readonly kind: "explain";
  readonly parts: { readonly [Kind in ProfileKind]: ProfileOfKind[Kind] };
  readonly choices: readonly (readonly [CompatOption, Choice])[];
}

export interface CompareRequest extends Form {
  readonly kind: "compare";
  readonly changed: Changed;
  readonly before: Choice<Changed>;
  readonly after: Choice<Changed>;
  /** Both sides: on the axis that changes, `before` and `after` stand alone. */
  readonly matrix: Matrix;
  readonly choices: readonly (readonly [CompatOption, Choice])[];
}

export type Request =
  | MatrixRequest
  | ExplainRequest
  | CompareRequest
  | { readonly kind: "list"; readonly json: boolean }
  | { readonly kind: "dump"; readonly name: string };

/** Which options go with which question; `--help` goes with all. */
const COMPANIONS: Readonly<Record<"list" | "dump" | "explain" | "before", readonly CompatOption[]>> = {
  list: ["json"],
  dump: [],
  explain: ["guest", "vmm", "device", "json", "mail"],
  before: ["after", "guest", "vmm", "device", "json", "mail", "threads"],
};

export function readRequest(given: Given): Request {
  const has = (name: CompatOption) => given.some((option) => option.name === name);
  const value = (name: CompatOption) => given.find((option) => option.name === name)?.value;
  for (const [lead, companions] of Object.entries(COMPANIONS)) {
    if (!has(lead as CompatOption)) continue;
    const stranger = given.find(({ name }) => name !== lead && !companions.some((each) => each === name));
    if (stranger !== undefined) {
      const problem = `--${lead} does not go with --${stranger.name}; keep one of them`;
      throw new UsageError("option-conflict", problem);
    }
  }
  const [before, after, explain, dump] = (["before", "after", "explain", "dump"] as const).map(value);
  const form = {
    json: has("json"),
    mail: writable("--mail", value("mail")),
    threads: threads(value("threads")),
  };
  if (has("list")) return { kind: "list", json: form.json };
  if (dump !== undefined) return { kind: "dump", name: dump };
  if (explain !== undefined) return { ...form, ...explained(explain, given) };
  if (before !== undefined || after !== undefined) return { ...form, ...compared(before, after, given) };
  return {
    ...form,
    kind: "matrix",
    ...chosen(given),
    html: writable("--html", value("html")),
    failOn: verdicts(value("fail-on")),
  };
}

/** The axes: what was named, or everything. */
function chosen(given: Given) {
  const choices = readChoices(given);
  const axis = <Kind extends ProfileKind>(kind: Kind): readonly ProfileOfKind[Kind][] => {
    const named = choices.filter(([option]) => option === kind).map(([, choice]) => choice as Choice<Kind>);
    refuseNamesakes(kind, named);
    return named.length === 0 ? builtinOf(kind) : named.map(({ profile }) => profile);
  };
  return { choices, matrix: { guests: axis("guest"), vmms: axis("vmm"), devices: axis("device") } };
}

function readChoices(given: Given): [ProfileKind, Choice][] {
  return given.flatMap(({ name, value }): [ProfileKind, Choice][] =>
    name === "guest" || name === "vmm" || name === "device"
      ? [[name, { word: value, profile: choose(name, value, `--${name}`) }]]
      : [],
  );
}

/** Two rows of one name could not be told apart. */
function refuseNamesakes(kind: ProfileKind, choices: readonly Choice[]): void {
  const seen = new Map<string, string>();
  for (const { word, profile } of choices) {
    const other = seen.get(profile.name);
    if (other !== undefined) {
      const problem = `${other} and ${word} are both called ${profile.name}; keep one, or give one another name`;
      throw new ConfigError("profile-twice", `--${kind}`, problem);
    }
    seen.set(profile.name, word);
  }
}

function explained(cell: string, given: Given): Pick<ExplainRequest, "kind" | "parts" | "choices"> {
  const names = cell.split("/");
  if (names.length !== 3) {
    const problem = `${JSON.stringify(cell)} is not GUEST/VMM/DEVICE, such as restricted-dma/crosvm-2022-07/linux-5.15`;
    throw new ConfigError("value-malformed", "--explain", problem);
  }
  const choices = readChoices(given);
  const part = <Kind extends ProfileKind>(kind: Kind, name: string): ProfileOfKind[Kind] => {
    const own = choices.filter(([option]) => option === kind).map(([, choice]) => choice as Choice<Kind>);
    refuseNamesakes(kind, own);
    const match = own.find(({ profile }) => profile.name === name);
    const [other] = own.filter((choice) => choice !== match);
    if (other !== undefined) {
      const problem = `${other.profile.name} is not the ${KIND_NAMES[kind]} of ${cell}; leave it out, or name it there`;
      throw new UsageError("option-conflict", problem, `--${kind}`);
    }
    return match?.profile ?? choose(kind, name, "--explain");
  };
  const [guest, vmm, device] = names;
  return {
    kind: "explain",
    parts: { guest: part("guest", guest), vmm: part("vmm", vmm), device: part("device", device) },
    choices,
  };
}

function compared(
  beforeWord: string | undefined,
  afterWord: string | undefined,
  given: Given,
): Omit<CompareRequest, keyof Form> {
  if (beforeWord === undefined || afterWord === undefined) {
    const [there, missing] = beforeWord === undefined ? ["--after", "--before"] : ["--before", "--after"];
    throw new UsageError("option-conflict", `${there} compares with ${missing}, which is missing`);
  }
  const before = chooseEither(beforeWord, "--before");
  const after = chooseEither(afterWord, "--after");
  const changed = before.profile.kind;
  if (after.profile.kind !== changed) {
    const problem = `${before.word} is a ${KIND_NAMES[changed]} and ${after.word} is a ${KIND_NAMES[after.profile.kind]}; compare two of one kind`;
    throw new UsageError("option-conflict", problem, "--after");
  }
  if (given.some(({ name }) => name === changed)) {
    const problem = `--${changed} does not go with a comparison of ${KIND_NAMES[changed]}s; --before and --after name them`;
    throw new UsageError("option-conflict", problem);
  }
  const { matrix, choices } = chosen(given);
  const sides = [before.profile, after.profile];
  const axis =
    changed === "device"
      ? { devices: sides as ProfileOfKind["device"][] }
      : { vmms: sides as ProfileOfKind["vmm"][] };
  return { kind: "compare", changed, before, after, matrix: { ...matrix, ...axis }, choices };
}

function verdicts(list: string | undefined): ReadonlySet<Verdict> {
  const words = list === undefined ? [] : list.split(",").map((word) => word.trim());
  return new Set(
    words.map((word) => {
      const verdict = VERDICTS.find((known) => known === word);
      if (verdict !== undefined) return verdict;
      const hint = didYouMean(word, VERDICTS) || `; the verdicts: ${VERDICTS.join(", ")}`;
      throw new ConfigError("value-malformed", "--fail-on", `unknown verdict ${JSON.stringify(word)}${hint}`);
    }),
  );
}

const MOST_THREADS = 64;

function threads(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = /^\d+$/.test(value) ? Number(value) : 0;
  if (number >= 1 && number <= MOST_THREADS) return number;
  const problem = `${JSON.stringify(value)} is not a number from 1 to ${MOST_THREADS}`;
  throw new ConfigError("value-out-of-range", "--threads", problem);
}

/** Said before the run rather than after it. */
function writable(option: string, file: string | undefined): string | undefined {
  if (file === undefined) return undefined;
  try {
    accessSync(dirname(file), constants.W_OK);
  } catch (cause) {
    const problem = `${dirname(file)} is no folder that can be written to`;
    throw new ConfigError("file-unwritable", option, problem, { cause });
  }
  return file;
}
