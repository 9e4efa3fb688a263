/**
 * Reads an argument vector against a table of options, and says what is wrong with it in our own words.
 * The splitting is node:util's parseArgs; the strictness is here, because its messages are for programmers.
 * Must not know what any option means.
 */

import { parseArgs } from "node:util";
import { didYouMean } from "../config/suggest.js";
import { UsageError } from "./usage-error.js";

export interface OptionDefinition {
  /** What follows the option in a usage line; an option without it is a switch. */
  readonly argument?: string;
  /** One letter, for `-h`. */
  readonly short?: string;
  readonly repeatable?: boolean;
  /** Another name of this option. */
  readonly aliasOf?: string;
  /** Absent: recognised but not advertised. */
  readonly help?: string;
}

export type OptionTable<Name extends string = string> = Readonly<Record<Name, OptionDefinition>>;

export interface GivenOption<Name extends string> {
  /** The option's own name, also if it was given by an alias. */
  readonly name: Name;
  /** As it was typed: `--socket-path`. */
  readonly typed: string;
  /** Empty for a switch. */
  readonly value: string;
}

/** The options in the order given. Throws a UsageError for the first thing that the table does not allow. */
export function readOptions<Name extends string>(
  argv: readonly string[],
  table: OptionTable<Name>,
): GivenOption<Name>[] {
  return readTokens(argv, table, (word) => {
    const problem = `unexpected argument ${JSON.stringify(word)}; every value follows an option`;
    throw new UsageError("argument-unexpected", problem);
  });
}

/** For a command that also takes words: they may stand before, between and behind the options. */
export function readArguments<Name extends string>(
  argv: readonly string[],
  table: OptionTable<Name>,
): { readonly options: GivenOption<Name>[]; readonly words: string[] } {
  const words: string[] = [];
  const options = readTokens(argv, table, (word) => words.push(word));
  return { options, words };
}

function readTokens<Name extends string>(
  argv: readonly string[],
  table: OptionTable<Name>,
  onWord: (word: string) => void,
): GivenOption<Name>[] {
  const { tokens } = parseArgs({
    args: [...argv],
    options: parseArgsOptions(table),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const given: GivenOption<Name>[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") onWord(token.value);
    if (token.kind === "option") given.push(readOption(token, table));
  }
  refuseRepeats(given, table);
  return given;
}

/** Whether a switch is there, however wrong the rest may be; what follows a bare `--` does not count. */
export function hasSwitch(argv: readonly string[], ...spellings: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (end === -1 ? argv : argv.slice(0, end)).some((argument) => spellings.includes(argument));
}

interface OptionToken {
  readonly name: string;
  readonly rawName: string;
  readonly value: string | undefined;
  readonly inlineValue: boolean | undefined;
}

function readOption<Name extends string>(token: OptionToken, table: OptionTable<Name>): GivenOption<Name> {
  const { rawName: typed, value } = token;
  if (!isOptionOf(table, token.name)) {
    const known = Object.keys(table).map((name) => `--${name}`);
    const hint = didYouMean(typed, known) || "; --help lists the options";
    throw new UsageError("option-unknown", `unknown option ${typed}${hint}`);
  }
  const { argument, aliasOf } = table[token.name];
  const name = (aliasOf ?? token.name) as Name;
  if (argument === undefined) {
    if (value === undefined) return { name, typed, value: "" };
    throw new UsageError("option-takes-no-value", `${typed} takes no value; leave out =${value}`);
  }
  if (value === undefined) {
    throw new UsageError("option-needs-value", `${typed} needs a value: ${typed} ${argument}`);
  }
  if (value.startsWith("-") && token.inlineValue !== true) {
    // `--socket --vm ...`: much more likely a forgotten value than a file called --vm.
    const problem = `${typed} needs a value: ${typed} ${argument} (one that begins with a dash: ${typed}=${value})`;
    throw new UsageError("option-needs-value", problem);
  }
  return { name, typed, value };
}

function isOptionOf<Name extends string>(table: OptionTable<Name>, name: string): name is Name {
  return Object.hasOwn(table, name);
}

function refuseRepeats<Name extends string>(given: readonly GivenOption<Name>[], table: OptionTable<Name>) {
  const seen = new Set<Name>();
  for (const { name } of given) {
    if (seen.has(name) && table[name].repeatable !== true) {
      throw new UsageError("option-twice", `--${name} is given twice; keep one of them`);
    }
    seen.add(name);
  }
}

function parseArgsOptions(table: OptionTable) {
  return Object.fromEntries(
    Object.entries(table).map(([name, { argument, short }]) => {
      const type = argument === undefined ? ("boolean" as const) : ("string" as const);
      return [name, { type, multiple: true, ...(short === undefined ? {} : { short }) }];
    }),
  );
}
