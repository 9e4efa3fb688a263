/** The files that this very process runs: what another of its kind has to be able to open. */
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";

/** Node, its libraries and the native binding: whatever is mapped here. */
export function programFiles(): string[] {
  const paths = readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .map((line) => line.slice(line.indexOf("/")));
  return [...new Set(paths)].filter((path) => path.startsWith("/") && existsSync(path));
}

/** The packages among which the native binding lies. */
export function bindingPackages(): string {
  const binding = realpathSync(createRequire(import.meta.url).resolve("koffi"));
  const folder = "/node_modules/";
  return binding.slice(0, binding.lastIndexOf(folder) + folder.length);
}
