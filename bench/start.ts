/**
 * The rows on starting: from exec until a device's socket listens, and until the device behind it answers its first
 * message. Of ours also what lies between.
 */
import { type StdioOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  connectUnix,
  createSocket,
  peekText,
  sendText,
  skipBytes,
  socketPair,
} from "../src/linux/unix-socket.js";
import { FrontEndConnection } from "../src/vhost/front-end-connection.js";
import { type CommandLine, ourCommand, socketsIn, vmOption } from "./device-process.js";
import { type BenchRecord, makeRecord } from "./record.js";
import { LOADED, SCRIPT_RUNS } from "./start-marks.js";

const PROBE = fileURLToPath(new URL("./start-probe.js", import.meta.url));
/** How finely the time until it listens is told. */
const LOOK_MS = 0.2;
const PATIENCE_MS = 10_000;
/** Until the shell waits for its signal. */
const SETTLING_MS = 20;

export interface StartOptions {
  readonly rounds: number;
  /** The peer's program; undefined: it is not measured. */
  readonly peerProgram: string | undefined;
  readonly onProgress?: (text: string) => void;
}

/** All in milliseconds from the moment at which a waiting shell was told to execute the program. */
export interface StartTimes {
  readonly listeningMs: number;
  readonly answeringMs: number;
  /** When each mark came, if it makes any. */
  readonly marksMs: ReadonlyMap<string, number>;
}

export async function measureStarts(options: StartOptions): Promise<BenchRecord[]> {
  const { rounds, peerProgram, onProgress } = options;
  const found: Record<"ours" | "peer" | "marked", StartTimes[]> = { ours: [], peer: [], marked: [] };
  const ours = ourCommand();
  const marked = { program: ours.program, args: [PROBE, "serve"] };
  for (let round = 0; round < rounds; round++) {
    found.ours.push(await startOnce(ours));
    found.marked.push(await startOnce(marked, true));
    if (peerProgram !== undefined) found.peer.push(await startOnce({ program: peerProgram, args: [] }));
  }
  onProgress?.(`${rounds} starts of each are done`);
  const record = (row: "start-listening" | "start-answering", of: (times: StartTimes) => number) =>
    makeRecord(
      row,
      { ours: found.ours.map(of), peer: found.peer.map(of), floor: [] },
      row === "start-answering" ? { parts: partsOf(found.marked) } : {},
    );
  return [
    record("start-listening", ({ listeningMs }) => listeningMs),
    record("start-answering", ({ answeringMs }) => answeringMs),
  ];
}

/** What the time until the first answer is made of. */
export function partsOf(starts: readonly StartTimes[]): Record<string, number[]> {
  const at = ({ marksMs }: StartTimes, mark: string): number => marksMs.get(mark) ?? Number.NaN;
  return {
    node: starts.map((times) => at(times, SCRIPT_RUNS)),
    modules: starts.map((times) => at(times, LOADED) - at(times, SCRIPT_RUNS)),
    sockets: starts.map((times) => times.listeningMs - at(times, LOADED)),
    thread: starts.map(({ listeningMs, answeringMs }) => answeringMs - listeningMs),
  };
}

/** Starts the program with one VM, waits until it answers, and ends it. */
export async function startOnce({ program, args }: CommandLine, makesMarks = false): Promise<StartTimes> {
  const folder = mkdtempSync(join(tmpdir(), "b33-start-"));
  const [signalFd, awaitedFd] = socketPair();
  const [marksFd, givenFd] = makesMarks ? socketPair() : [-1, -1];
  try {
    const stdio: StdioOptions = [awaitedFd, "ignore", "ignore", ...(makesMarks ? [givenFd] : [])];
    // To fork this process takes longer than the peer takes to start: a shell is there already, and becomes the program.
    const command = ["-c", 'read -r _ && exec "$@"', "sh", program, ...args, ...vmOption(folder)];
    const child = spawn("/bin/sh", command, { stdio });
    try {
      await new Promise((resolve) => setTimeout(resolve, SETTLING_MS));
      const beganMs = performance.now();
      sendText(signalFd, "\n");
      return watch(beganMs, socketsIn(folder).socketPath, marksFd);
    } finally {
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    }
  } finally {
    for (const fd of [signalFd, awaitedFd, marksFd, givenFd]) if (fd >= 0) closeSync(fd);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Blocks, so that nothing of its own delays what it sees. */
function watch(beganMs: number, socketPath: string, marksFd: number): StartTimes {
  const marksMs = new Map<string, number>();
  const sinceMs = (): number => performance.now() - beganMs;
  const fd = createSocket();
  const lookForMarks = (): void => {
    const text = marksFd < 0 ? "" : peekText(marksFd, 1);
    if (typeof text !== "string" || text === "") return;
    marksMs.set(text, sinceMs());
    skipBytes(marksFd, 1);
  };
  // Refused: the file is there, and nobody listens yet.
  while (connectUnix(fd, socketPath) !== 0) {
    lookForMarks();
    if (sinceMs() > PATIENCE_MS) throw new Error(`nobody listens at ${socketPath}`);
    Atomics.wait(asleep, 0, 0, LOOK_MS);
  }
  const listeningMs = sinceMs();
  lookForMarks();
  const connection = new FrontEndConnection(fd, { timeoutMs: PATIENCE_MS });
  connection.request("GET_FEATURES");
  const answeringMs = sinceMs();
  connection.close();
  return { listeningMs, answeringMs, marksMs };
}

/** Nobody wakes this. */
const asleep = new Int32Array(new SharedArrayBuffer(4));
