/**
 * The version, from the package itself, so that it is written down once.
 */

import { readFileSync } from "node:fs";

export function packageVersion(): string {
  // build/src/cli/version.js -> package.json
  const file = new URL("../../../package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(file, "utf8")) as { version: string };
  return version;
}
