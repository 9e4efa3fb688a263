/**
 * Which profiles the words of a command line mean: names of built-in ones, or files of the user's own. Must not know
 * which option takes how many.
 */
import { ConfigError } from "../../config/errors.js";
import { nearWords } from "../../config/suggest.js";
import { BUILTIN_NAMES, builtin, builtinText } from "../../profiles/builtin.js";
import { KIND_NAMES, PROFILE_KINDS, type ProfileKind, type ProfileOfKind } from "../../profiles/profile.js";
import { resolveProfile } from "../../profiles/resolve.js";

/** A profile, and how the user named it. */
export interface Choice<Kind extends ProfileKind = ProfileKind> {
  readonly word: string;
  readonly profile: ProfileOfKind[Kind];
}

export function builtinOf<Kind extends ProfileKind>(kind: Kind): readonly ProfileOfKind[Kind][] {
  return BUILTIN_NAMES[kind].map((name) => builtin(kind, name));
}

/** A name or a file, of one kind. @param option for the place of an error: `--vmm` */
export function choose<Kind extends ProfileKind>(
  kind: Kind,
  word: string,
  option: string,
): ProfileOfKind[Kind] {
  const actual = kindOfName(word);
  if (actual !== undefined && actual !== kind) {
    const problem = `${word} is a ${KIND_NAMES[actual]}, not a ${KIND_NAMES[kind]}`;
    throw new ConfigError("profile-kind", option, problem);
  }
  return resolveProfile(kind, word);
}

/** A name or a file, of a device or a VMM. */
export function chooseEither(word: string, option: string): Choice<"device" | "vmm"> {
  const actual = kindOfName(word);
  if (actual === "guest") {
    const problem = `${word} is a guest; compare two devices or two VMMs, for the guests that --guest names`;
    throw new ConfigError("profile-kind", option, problem);
  }
  if (actual !== undefined) return { word, profile: builtin(actual, word) };
  try {
    return { word, profile: resolveProfile("device", word) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    if (error.code === "profile-unknown") throw unknown(word, ["device", "vmm"], option);
    if (error.code !== "profile-kind") throw error;
    return { word, profile: resolveProfile("vmm", word) };
  }
}

/** The file of a built-in profile, as it is. */
export function dumped(name: string): string {
  const kind = kindOfName(name);
  if (kind === undefined) throw unknown(name, PROFILE_KINDS, "--dump");
  return builtinText(kind, name);
}

/** Names are unique over all kinds, which a test of the built-in profiles sees to. */
function kindOfName(word: string): ProfileKind | undefined {
  return PROFILE_KINDS.find((kind) => BUILTIN_NAMES[kind].some((name) => name === word));
}

function unknown(word: string, kinds: readonly ProfileKind[], option: string): ConfigError {
  const near = nearWords(
    word,
    kinds.flatMap((kind) => BUILTIN_NAMES[kind]),
  );
  const hint = near.length === 0 ? "" : `; did you mean ${near.join(" or ")}?`;
  const what = kinds.length === 2 ? "device or VMM" : "profile";
  const problem = `there is no ${what} ${JSON.stringify(word)}${hint || "; bit33 compat --list names all of them"}`;
  return new ConfigError("profile-unknown", option, problem);
}
