/** Other people's programs that read what `bit33 inspect` writes, or write what it reads. Must not know what is tested. */
import { findProgram } from "../vm/paths.js";

/** By the Debian package that brings each. */
const TOOLS = ["tshark", "strace"] as const;

/** Undefined when all of them are installed, else what is missing, in a few words. */
export function whatToolIsMissing(): string | undefined {
  const missing = TOOLS.filter((name) => findProgram(name) === undefined);
  return missing.length === 0 ? undefined : `${missing.join(" and ")} not installed`;
}
