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

/**
 * The outermost folder of packages in which the native binding lies: its parts may be links to others there, as some
 * package managers have it.
 */
export function bindingPackages(): string {
  const binding = realpathSync(createRequire(import.meta.url).resolve("koffi"));
  const folder = "/node_modules/";
  return binding.slice(0, binding.indexOf(folder) + folder.length);
}
