/**
 * What a process has of the system's resources, from /proc, and of JavaScript's heaps, from the probe that runs inside it
 * (`soak-probe.ts`). Must not know what the process does.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** The environment variable that tells the probe its folder, and the file there that says how many collections are due. */
export const PROBE_FOLDER = "BIT33_SOAK_PROBE";
export const COLLECT_FILE = "collect";

export interface ProcessSample {
  /** Resident: everything, what no file is behind, and shares counted by the number of those who share. */
  readonly rssBytes: number;
  readonly privateBytes: number;
  readonly pssBytes: number;
  readonly descriptors: number;
  readonly mappings: number;
  readonly threads: number;
}

export interface HeapSample {
  /** Summed over the threads, rubbish included. */
  readonly usedBytes: number;
  /** After a full collection: objects, and what they hold outside of the heap. */
  readonly liveBytes: number;
  readonly externalBytes: number;
  /** What was asked for by `collect` when this was taken. */
  readonly collection: number;
}

/** The number behind `name:` in the form of /proc/PID/status and smaps_rollup, in bytes (they say kB and mean KiB). */
export function kibibytesOf(text: string, name: string): number {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text);
  if (match === null) throw new Error(`there is no ${name} in ${JSON.stringify(text.slice(0, 80))}`);
  return Number(match[1]) * 1024;
}

export function sampleProcess(pid: number): ProcessSample {
  const of = (name: string): string => readFileSync(`/proc/${pid}/${name}`, "latin1");
  const status = of("status");
  return {
    rssBytes: kibibytesOf(status, "VmRSS"),
    privateBytes: kibibytesOf(status, "RssAnon"),
    pssBytes: kibibytesOf(of("smaps_rollup"), "Pss"),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    mappings: of("maps").split("\n").length - 1,
    threads: readdirSync(`/proc/${pid}/task`).length,
  };
}

/** What the probes of a process have left in `folder` last; undefined if one of `threads` has left nothing yet. */
export function sampleHeaps(folder: string, threads: number): HeapSample | undefined {
  const found = readdirSync(folder)
    .filter((name) => /^heap-\d+$/.test(name))
    .map((name) => JSON.parse(readFileSync(join(folder, name), "utf8")) as HeapSample);
  if (found.length < threads) return undefined;
  return {
    usedBytes: sum(found.map(({ usedBytes }) => usedBytes)),
    liveBytes: sum(found.map(({ liveBytes }) => liveBytes)),
    externalBytes: sum(found.map(({ externalBytes }) => externalBytes)),
    collection: Math.min(...found.map(({ collection }) => collection)),
  };
}

/** How long all threads of a process have waited for a processor, in seconds. */
export function waitedSeconds(pid: number): number {
  return scheduledSeconds(pid, 1);
}

/** How long they have had one: as exact as the kernel counts, unlike the ticks of `proc-stat.ts`. */
export function ranSeconds(pid: number): number {
  return scheduledSeconds(pid, 0);
}

/** A number of /proc/PID/task/TID/schedstat, in nanoseconds there. */
function scheduledSeconds(pid: number, column: number): number {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => {
    try {
      return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[column]);
    } catch {
      // It ended while we looked.
      return 0;
    }
  });
  return sum(threads) / 1e9;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
