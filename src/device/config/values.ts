/**
 * From the text of one setting to a value of the right kind: numbers, choices, file modes, groups.
 * Each reader takes the text with its place and throws a ConfigError that says what would have been right.
 * Must not know which setting it reads, nor what range is allowed (check.ts): only what can be written.
 */

import { readFileSync } from "node:fs";
import { ConfigError } from "../../config/errors.js";
import { quoted } from "../../config/quoted.js";
import { didYouMean } from "../../config/suggest.js";

/** One value as the operator wrote it, and where. */
export interface Setting {
  readonly text: string;
  /** `--guest-cid`, `--vm #2 (guest-cid)`, `vms.yaml:3:16`. */
  readonly place: string;
}

/** Decimal, or hexadecimal after `0x`, as both the peer's command line and YAML write numbers. */
export function readNumber({ text, place }: Setting): number {
  if (!/^(\d+|0x[\da-f]+)$/i.test(text)) {
    throw new ConfigError("value-malformed", place, `${quoted(text)} is not a whole number`);
  }
  return Number(text);
}

export function readChoice<const Choice extends string>(
  { text, place }: Setting,
  choices: readonly Choice[],
): Choice {
  const found = choices.find((choice) => choice === text);
  if (found !== undefined) return found;
  const problem = `${quoted(text)} is not one of ${choices.join(", ")}`;
  throw new ConfigError("value-malformed", place, problem + didYouMean(text, choices));
}

export function readSwitch({ text, place }: Setting): boolean {
  // true and false are what YAML users write for a switch.
  const choice = readChoice({ text, place }, ["on", "off", "true", "false"]);
  return choice === "on" || choice === "true";
}

/** Names joined with `+`, the peer's notation; a name given twice counts once. */
export function readNames({ text, place }: Setting): string[] {
  const names = text.split("+").map((name) => name.trim());
  if (names.includes("")) {
    throw new ConfigError(
      "value-malformed",
      place,
      `${quoted(text)} holds an empty name; write the names as group1+group2`,
    );
  }
  return [...new Set(names)];
}

export function readPath({ text, place }: Setting): string {
  if (text === "") throw new ConfigError("value-missing", place, "the path is empty; give a file name");
  if (text.includes("\0")) {
    throw new ConfigError("value-malformed", place, `${quoted(text)} holds a NUL byte, which no path may`);
  }
  return text;
}

/** Permission bits in octal, as chmod takes them. */
export function readMode({ text, place }: Setting): number {
  const digits = /^(?:0o?)?([0-7]{3})$/.exec(text)?.[1];
  if (digits === undefined) {
    throw new ConfigError(
      "value-malformed",
      place,
      `${quoted(text)} is not a file mode; give three octal digits, such as 0660`,
    );
  }
  return Number.parseInt(digits, 8);
}

/** The group's number, from itself or from its name. chown(2) takes -1 for "leave it", so that is no group. */
export function readGroup({ text, place }: Setting, groupFile = "/etc/group"): number {
  if (/^\d+$/.test(text)) {
    const gid = Number(text);
    if (gid < 0xffffffff) return gid;
    throw new ConfigError(
      "value-out-of-range",
      place,
      `${text} is no group number; the largest is 4294967294`,
    );
  }
  const gid = gidByName(text, groupFile);
  if (gid !== undefined) return gid;
  throw new ConfigError(
    "group-unknown",
    place,
    `there is no group ${quoted(text)} in ${groupFile}; create it, or give the group's number`,
  );
}

/** group(5): `name:password:GID:members`. A file that cannot be read knows no group. */
function gidByName(name: string, groupFile: string): number | undefined {
  let content: string;
  try {
    content = readFileSync(groupFile, "utf8");
  } catch {
    return undefined;
  }
  for (const line of content.split("\n")) {
    const [entryName, , gid] = line.split(":");
    if (entryName === name && gid !== undefined && /^\d+$/.test(gid)) return Number(gid);
  }
  return undefined;
}
