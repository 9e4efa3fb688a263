/**
 * Where and with what something was measured: one line of JSON to go with the results, without which no figure means
 * anything. Says only what can be read off; what cannot is null. By itself: `node build/bench/machine.js [--note TEXT]`.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { peerCrate, whatPeerIsMissing } from "../test/peers/paths.js";
import { root } from "../test/vm/paths.js";

export interface Machine {
  /** As the processor calls itself. */
  readonly cpu: string;
  /** Processors that programs are run on. */
  readonly cores: number;
  /** The processor says that a hypervisor is beneath it: what other guests do is measured, too. */
  readonly isVirtual: boolean;
  readonly memoryMiB: number;
  readonly kernel: string;
  /** How the clock of the first processor is governed; null where the system does not say. */
  readonly governor: string | null;
  readonly node: string;
  /** The peer's name and version; null: not installed. */
  readonly peer: string | null;
  /** UTC, to the minute. */
  readonly date: string;
  /** What was measured; null outside of a git repository. */
  readonly commit: string | null;
  /** Whether files of the repository differed from the commit. */
  readonly hasChanges: boolean | null;
  /** Mean number of busy or waiting threads in the minute before: a quiet machine is near 0. Null: nobody looked. */
  readonly loadBefore: number | null;
  /** What the reader of the figures has to know, such as how short the runs were. */
  readonly note: string | null;
}

export function describeMachine(note: string | null = null): Machine {
  const changes = git("status", "--porcelain", "--untracked-files=no");
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    isVirtual: /^flags\s*:.*\bhypervisor\b/m.test(contentOf("/proc/cpuinfo") ?? ""),
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    governor: contentOf("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    node: process.version,
    peer: whatPeerIsMissing() === undefined ? `${peerCrate.name} ${peerCrate.version}` : null,
    date: `${new Date().toISOString().slice(0, 16)}Z`,
    commit: git("rev-parse", "--short=12", "HEAD"),
    hasChanges: changes === null ? null : changes !== "",
    loadBefore: Math.round(loadavg()[0] * 100) / 100,
    note,
  };
}

/** One line of JSON, without its end. */
export function machineLine(note?: string): string {
  return JSON.stringify({ machine: describeMachine(note) });
}

function contentOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}

function git(...words: string[]): string | null {
  const { status, stdout } = spawnSync("git", words, { cwd: root, encoding: "utf8" });
  return status === 0 ? stdout.trim() : null;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { note: { type: "string" } } });
  console.log(machineLine(values.note));
}
