/**
 * A profile as a command line names it: a built-in one by its name, a file by its path. Must not know the commands.
 */
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { ConfigError } from "../config/errors.js";
import { BUILTIN_NAMES, builtin } from "./builtin.js";
import type { ProfileKind, ProfileOfKind } from "./profile.js";
import { readProfileOf } from "./schema/index.js";

/**
 * A word with a slash in it, or with the ending of a YAML file, is a path; any other word is a built-in profile's name.
 * Throws a ConfigError: the name or the file does not exist, the file says something wrong or is of another kind.
 */
export function resolveProfile<Kind extends ProfileKind>(kind: Kind, word: string): ProfileOfKind[Kind] {
  return isPath(word) ? withEvidence(kind, readProfileOf(kind, readText(word), word)) : builtin(kind, word);
}

/** `executed` is what this project's tests have compared: a file that says so has to be what they compared. */
function withEvidence<Kind extends ProfileKind>(
  kind: Kind,
  profile: ProfileOfKind[Kind],
): ProfileOfKind[Kind] {
  if (profile.evidence !== "executed") return profile;
  const names: readonly string[] = BUILTIN_NAMES[kind];
  const isChecked = names.includes(profile.name) && isDeepStrictEqual(builtin(kind, profile.name), profile);
  return isChecked ? profile : { ...profile, evidence: "derived" };
}

function isPath(word: string): boolean {
  return word.includes("/") || /\.ya?ml$/.test(word);
}

function readText(fileName: string): string {
  try {
    return readFileSync(fileName, "utf8");
  } catch (cause) {
    const reason = cause instanceof Error && "code" in cause ? cause.code : String(cause);
    const problem = `the file cannot be read (${reason}); check the path of the profile`;
    throw new ConfigError("file-unreadable", fileName, problem, { cause });
  }
}
