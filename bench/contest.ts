/**
 * All sides measured in turn, over several rounds: each work is run by one side straight after the other, so that
 * whatever else the machine does meets them alike. Starts and ends every process that takes part.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Contender, type Reading } from "./contender.js";
import { DeviceProcess } from "./device-process.js";
import { busyOf, type Effort } from "./effort.js";
import { type Entry, entriesFor } from "./entries.js";
import { Program } from "./program.js";
import { Progress } from "./progress.js";
import { missingRounds, quietRounds } from "./quiet-rounds.js";
import { type BenchRecord, makeRecord, SIDES, type Side } from "./record.js";
import { type RowName, rowsOf, SETTINGS, type Setting, type Work } from "./rows.js";

export interface ContestOptions {
  readonly works: readonly Work[];
  readonly rounds: number;
  /** How many rounds of a work may be played again because others kept the machine busy meanwhile; default none. */
  readonly mostRepeats?: number;
  readonly durationMs: number;
  /** Before the rounds each side runs each work once, for so long; nothing is kept of it. */
  readonly warmUpMs: number;
  readonly queueSize: number;
  /** The guest gives credit as Linux before 6.8: only once most of the buffer is used. */
  readonly lazyCredit?: boolean;
  /** What the guest's connections advertise; default as Linux. */
  readonly guestBufferBytes?: number | undefined;
  /** The peer's program; undefined: it is not measured. */
  readonly peerProgram: string | undefined;
  /** Which settings are measured, in the same rounds; default both. Without a peer "equal" is left out. */
  readonly settings?: readonly Setting[];
  /** In the setting "equal", the buffer that both devices advertise; default ours. */
  readonly bufferBytes?: number | undefined;
  /** Options of node for our device. */
  readonly nodeOptions?: readonly string[];
  /** Told of each finished work of a round. */
  readonly onProgress?: (text: string) => void;
}

export interface ContestResult {
  /** The rows of the first setting, then those of the second, each in the order of the works. */
  readonly records: readonly BenchRecord[];
}

export async function runContest(options: ContestOptions): Promise<ContestResult> {
  const folder = mkdtempSync(join(tmpdir(), "b33-bench-"));
  const stops: (() => void | Promise<void>)[] = [];
  try {
    const entrants = await start(options, folder, stops);
    await play(options, entrants);
    const settings = SETTINGS.filter((setting) => entrants.some(({ entry }) => entry.settings.has(setting)));
    return { records: settings.flatMap((setting) => recordsOf(setting, options, entrants)) };
  } finally {
    for (const stop of stops.reverse()) await stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A contender, and what it did in each round. */
interface Entrant {
  readonly entry: Entry;
  readonly contender: Contender;
  readonly runs: Map<Work, { readonly reading: Reading; readonly effort: Effort }[]>;
}

async function start(
  options: ContestOptions,
  folder: string,
  stops: (() => void | Promise<void>)[],
): Promise<Entrant[]> {
  const progressPath = join(folder, "progress");
  const progress = new Progress(progressPath);
  const host = Program.host(progressPath);
  stops.push(() => host.stop());
  const { queueSize, lazyCredit = false, guestBufferBytes: bufferBytes } = options;
  const entrants: Entrant[] = [];
  for (const entry of entriesFor({ ...options, hasPeer: options.peerProgram !== undefined })) {
    const own = join(folder, entry.name);
    mkdirSync(own);
    const device = await openDevice(entry, own, options);
    if (device !== undefined) stops.push(() => device.stop());
    const guest = Program.guest(`the guest of ${entry.name}`, progressPath);
    stops.push(() => guest.stop());
    if (device !== undefined)
      await guest.ask({ do: "attach", socketPath: device.socketPath, queueSize, lazyCredit, bufferBytes });
    const contender = new Contender({ side: entry.side, guest, host, progress, device, folder: own });
    entrants.push({ entry, contender, runs: new Map() });
  }
  return entrants;
}

async function openDevice(
  { side, bufferBytes }: Entry,
  folder: string,
  { peerProgram, nodeOptions = [] }: ContestOptions,
): Promise<DeviceProcess | undefined> {
  if (side === "ours") return DeviceProcess.ours({ folder, bufferBytes, nodeOptions });
  return side === "peer" && peerProgram !== undefined
    ? DeviceProcess.peer(peerProgram, { folder, bufferBytes })
    : undefined;
}

async function play(options: ContestOptions, entrants: readonly Entrant[]): Promise<void> {
  const { works, rounds, durationMs, warmUpMs, mostRepeats = 0, onProgress } = options;
  const each = async (
    ms: number,
    order: readonly Entrant[],
    take: boolean,
    wanted: readonly Work[] = works,
  ): Promise<void> => {
    for (const work of wanted) {
      for (const { contender, runs } of order) {
        if (!contender.can(work)) continue;
        const run = await contender.run(work, ms);
        if (!take) continue;
        const known = runs.get(work);
        if (known === undefined) runs.set(work, [run]);
        else known.push(run);
      }
    }
  };
  if (warmUpMs > 0) await each(warmUpMs, entrants, false);
  for (let round = 0; round < rounds; round++) {
    await each(durationMs, turned(entrants, round), true);
    onProgress?.(`round ${round + 1} of ${rounds} is done`);
  }
  for (let repeat = 0; repeat < mostRepeats; repeat++) {
    const wanted = works.filter((work) => missingRounds(disturbancesOf(work, entrants), rounds) > 0);
    if (wanted.length === 0) return;
    await each(durationMs, turned(entrants, rounds + repeat), true, wanted);
    onProgress?.(`disturbed rounds were played again: ${wanted.join(", ")}`);
  }
}

/** Of each round of a work, the most that the rest of the machine took while one of the sides ran, in processors. */
function disturbancesOf(work: Work, entrants: readonly Entrant[]): number[] {
  const all = entrants.flatMap(({ runs }) => {
    const played = runs.get(work);
    return played === undefined
      ? []
      : [played.map(({ effort }) => effort.otherSeconds / effort.measuredSeconds)];
  });
  return (all[0] ?? []).map((_, round) => Math.max(...all.map((each) => each[round])));
}

/** Who goes first, and who after whom, changes from round to round. */
function turned<T>(all: readonly T[], round: number): T[] {
  const first = (round >> 1) % all.length;
  const order = [...all.slice(first), ...all.slice(0, first)];
  return round % 2 === 1 ? order.reverse() : order;
}

function recordsOf(
  setting: Setting,
  { works, rounds }: ContestOptions,
  entrants: readonly Entrant[],
): readonly BenchRecord[] {
  const bySide = (side: Side): Entrant | undefined =>
    entrants.find(({ entry }) => entry.side === side && entry.settings.has(setting));
  const buffers = {
    ours: bySide("ours")?.entry.advertisedBytes ?? null,
    peer: bySide("peer")?.entry.advertisedBytes ?? null,
  };
  return works.flatMap((work) => {
    const disturbances = disturbancesOf(work, entrants);
    const kept = quietRounds(disturbances, rounds);
    const runsOf = (side: Side) => {
      const played = bySide(side)?.runs.get(work);
      return played === undefined ? [] : kept.map((round) => played[round]);
    };
    const leftOut = disturbances.length - kept.length;
    const busy = Object.fromEntries(
      SIDES.flatMap((side) => {
        const efforts = runsOf(side).map(({ effort }) => effort);
        return efforts.length === 0 ? [] : [[side, busyOf(efforts, side !== "floor")] as const];
      }),
    );
    const values = (row: RowName, side: Side): number[] =>
      runsOf(side).flatMap(({ reading }) => reading[row] ?? []);
    return rowsOf(work).map((row) => {
      const found = { ours: values(row, "ours"), peer: values(row, "peer"), floor: values(row, "floor") };
      return makeRecord(row, found, { setting, buffers, busy, leftOut });
    });
  });
}
