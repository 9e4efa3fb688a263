/**
 * The inputs that are kept, a text file a target: an input a line, in hexadecimal. And what a run of the fuzzer counts as
 * the program.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../vm/paths.js";
import { distilled } from "./engine.js";
import type { Target } from "./target.js";

function pathOf(name: string): string {
  return join(root, "test/fuzz/corpus", `${name}.hex`);
}

export function readCorpus(name: string): Uint8Array[] {
  if (!existsSync(pathOf(name))) return [];
  const lines = readFileSync(pathOf(name), "utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => new Uint8Array(Buffer.from(line, "hex")));
}

/** Keeps as few of the inputs as run everything that all of them run; returns how many. */
export function writeCorpus(target: Target, inputs: readonly Uint8Array[]): number {
  const kept = distilled(target, inputs, isOurs);
  const lines = kept.map((input) => `${Buffer.from(input).toString("hex")}\n`).sort();
  writeFileSync(pathOf(target.name), lines.join(""));
  return kept.length;
}

/** The compiled sources, without what is there for tests. */
export function isOurs(url: string): boolean {
  return url.includes("/build/src/") && !/-rig\.js$|\.fixture\.js$|testing\.js$/.test(url);
}
