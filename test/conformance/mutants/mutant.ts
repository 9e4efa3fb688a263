/**
 * A deliberate fault of this project's device, as data, and how it gets into a copy of the compiled build. Must not know
 * which faults there are, nor how they are found.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../../vm/paths.js";

export interface Mutant {
  readonly name: string;
  /** What is wrong with this device, as a sentence without its subject. */
  readonly fault: string;
  /** Below build/src. */
  readonly file: string;
  /** What stands in the compiled file, exactly once, and what stands there instead. */
  readonly find: string;
  readonly replace: string;
  /** The cases that have to fail, each of them. */
  readonly cases: readonly [string, ...string[]];
}

const BUILD = join(root, "build/src");
/** Neither tests nor what the compiler writes for others. */
const NEEDED = /(?<!\.test)\.js$/;

/** The file's text with the fault in it. Throws if the place is not there, or there is more than one. */
export function mutated({ name, file, find, replace }: Mutant): string {
  const parts = readFileSync(join(BUILD, file), "utf8").split(find);
  if (parts.length !== 2)
    throw new Error(`mutant ${name}: ${file} has ${parts.length - 1} times, not once: ${find}`);
  return parts.join(replace);
}

/** A copy of the build, to be removed behind its use. */
export interface BuildCopy {
  readonly folder: string;
  /** The compiled command-line program. */
  readonly program: string;
  remove(): void;
}

/** Copies the build, with a fault or, for comparison, without one. */
export function copyBuild(mutant?: Mutant): BuildCopy {
  const folder = mkdtempSync(join(tmpdir(), "bit33-mutant-"));
  const source = join(folder, "build/src");
  mkdirSync(source, { recursive: true });
  cpSync(BUILD, source, { recursive: true, filter: (path) => !/\.[a-z]+$/.test(path) || NEEDED.test(path) });
  cpSync(join(root, "package.json"), join(folder, "package.json"));
  for (const name of ["node_modules", "profiles"]) symlinkSync(join(root, name), join(folder, name));
  if (mutant !== undefined) writeFileSync(join(source, mutant.file), mutated(mutant));
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  return { folder, program: join(source, "cli/main.js"), remove };
}
