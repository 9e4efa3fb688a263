/**
 * Fuzzes a target in a child process, so that an input which ends or hangs the process is found like any other: the child
 * writes each input into a file before it runs it. Must not know how inputs are made.
 */
import { type ChildProcess, fork } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { root } from "../vm/paths.js";

/** What the child says when it is done. Inputs are in hexadecimal. */
export interface ChildReport {
  readonly runs: number;
  readonly places: number;
  readonly corpus: readonly string[];
  readonly failure: { readonly input: string; readonly what: string } | undefined;
}

export interface Found {
  readonly runs: number;
  readonly places: number;
  readonly corpus: readonly Uint8Array[];
  readonly failure: { readonly input: Uint8Array; readonly what: string } | undefined;
}

/** No input takes nearly as long; one that does hangs. */
export const HANG_MS = 20_000;
const LOOK_MS = 1000;

export interface FuzzRequest {
  readonly seconds: number;
  readonly seed: number;
  /** Which module has the targets; for tests. */
  readonly targets?: string;
  readonly hangMs?: number;
}

const WORKER = fileURLToPath(new URL("./worker.js", import.meta.url));
const TARGETS = new URL("./targets/index.js", import.meta.url).href;

export async function fuzzInChild(name: string, request: FuzzRequest): Promise<Found> {
  const folder = mkdtempSync(join(tmpdir(), "bit33-fuzz-"));
  const latest = join(folder, "input");
  writeFileSync(latest, "");
  const { seconds, seed, targets = TARGETS, hangMs = HANG_MS } = request;
  const child = fork(WORKER, [targets, name, String(seconds), String(seed), latest]);
  const watch = watchForHang(child, latest, hangMs);
  try {
    return await outcome(child, latest, watch);
  } finally {
    clearInterval(watch.timer);
    rmSync(folder, { recursive: true });
  }
}

interface HangWatch {
  readonly timer: NodeJS.Timeout;
  hangs: boolean;
}

function watchForHang(child: ChildProcess, latest: string, hangMs: number): HangWatch {
  const startMs = Date.now();
  const watch: HangWatch = {
    hangs: false,
    timer: setInterval(
      () => {
        // Not before the first input: to load everything takes its time.
        const { size, mtimeMs } = statSync(latest);
        const sinceMs = Date.now() - (size === 0 ? startMs + hangMs : mtimeMs);
        if (sinceMs < hangMs) return;
        watch.hangs = true;
        child.kill("SIGKILL");
      },
      Math.min(LOOK_MS, hangMs / 4),
    ),
  };
  return watch;
}

function outcome(child: ChildProcess, latest: string, watch: HangWatch): Promise<Found> {
  return new Promise((resolve) => {
    let report: ChildReport | undefined;
    child.on("message", (message) => {
      report = message as ChildReport;
    });
    child.on("close", (status, signal) => {
      if (report !== undefined) {
        resolve(decode(report));
        return;
      }
      const how = watch.hangs ? "the input hangs" : `the process died: ${signal ?? `status ${status}`}`;
      resolve({
        runs: 0,
        places: 0,
        corpus: [],
        failure: { input: new Uint8Array(readFileSync(latest)).subarray(1), what: how },
      });
    });
  });
}

function decode({ runs, places, corpus, failure }: ChildReport): Found {
  const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
  return {
    runs,
    places,
    corpus: corpus.map(bytes),
    failure: failure === undefined ? undefined : { input: bytes(failure.input), what: failure.what },
  };
}

/** Writes an input to a file that git ignores, and returns its path from the root. */
export function saveFailure(name: string, input: Uint8Array): string {
  const hash = createHash("sha256").update(input).digest("hex").slice(0, 8);
  const path = join(".fuzz", `${name}-${hash}`);
  mkdirSync(join(root, ".fuzz"), { recursive: true });
  writeFileSync(join(root, path), input);
  return path;
}
