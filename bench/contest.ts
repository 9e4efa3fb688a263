/**
 * All sides measured in turn, over several rounds: each work is run by one side straight after the other, so that
 * whatever else the machine does meets them alike. Starts and ends every process that takes part.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Contender, type Effort } from "./contender.js";
import { DeviceProcess } from "./device-process.js";
import { Program } from "./program.js";
import { Progress } from "./progress.js";
import { type BenchRecord, makeRecord, SIDES, type Side } from "./record.js";
import { type RowName, rowsOf, type Work } from "./rows.js";

export interface ContestOptions {
  readonly works: readonly Work[];
  readonly rounds: number;
  readonly durationMs: number;
  /** Before the rounds each side runs each work once, for so long; nothing is kept of it. */
  readonly warmUpMs: number;
  readonly queueSize: number;
  /** The guest gives credit as Linux before 6.8: only once most of the buffer is used. */
  readonly lazyCredit?: boolean;
  /** The peer's program; undefined: it is not measured. */
  readonly peerProgram: string | undefined;
  /** The same advertised buffer for both devices; undefined: each one's default. */
  readonly bufferBytes?: number | undefined;
  /** Options of node for our device. */
  readonly nodeOptions?: readonly string[];
  /** Told of each finished work of a round. */
  readonly onProgress?: (text: string) => void;
}

/** CPU seconds over the rounds, by side. */
export type Efforts = Map<Side, { deviceSeconds: number; driverSeconds: number }>;

export interface ContestResult {
  readonly records: readonly BenchRecord[];
  /** By kind of work, in the order of the works. */
  readonly efforts: readonly { readonly work: Work; readonly efforts: Efforts }[];
}

export async function runContest(options: ContestOptions): Promise<ContestResult> {
  const folder = mkdtempSync(join(tmpdir(), "b33-bench-"));
  const stops: (() => void | Promise<void>)[] = [];
  try {
    const contenders = await start(options, folder, stops);
    return await play(options, contenders);
  } finally {
    for (const stop of stops.reverse()) await stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function start(
  options: ContestOptions,
  folder: string,
  stops: (() => void | Promise<void>)[],
): Promise<Contender[]> {
  const progressPath = join(folder, "progress");
  const progress = new Progress(progressPath);
  const host = Program.host(progressPath);
  stops.push(() => host.stop());
  const { peerProgram, bufferBytes, nodeOptions = [], queueSize, lazyCredit = false } = options;
  const contender = async (side: Side): Promise<Contender> => {
    const own = join(folder, side);
    mkdirSync(own);
    const device = await openDevice(side, { folder: own, bufferBytes, nodeOptions }, peerProgram);
    if (device !== undefined) stops.push(() => device.stop());
    const guest = Program.guest(`the guest of ${side}`, progressPath);
    stops.push(() => guest.stop());
    if (device !== undefined)
      await guest.ask({ do: "attach", socketPath: device.socketPath, queueSize, lazyCredit });
    return new Contender({ side, guest, host, progress, device, folder: own });
  };
  const contenders: Contender[] = [];
  for (const side of SIDES) {
    if (side !== "peer" || peerProgram !== undefined) contenders.push(await contender(side));
  }
  return contenders;
}

async function openDevice(
  side: Side,
  options: Parameters<typeof DeviceProcess.ours>[0],
  peerProgram: string | undefined,
): Promise<DeviceProcess | undefined> {
  if (side === "ours") return DeviceProcess.ours(options);
  return side === "peer" && peerProgram !== undefined ? DeviceProcess.peer(peerProgram, options) : undefined;
}

async function play(options: ContestOptions, contenders: readonly Contender[]): Promise<ContestResult> {
  const { works, rounds, durationMs, warmUpMs, onProgress } = options;
  const values = new Map<RowName, Record<Side, number[]>>();
  for (const row of works.flatMap(rowsOf)) values.set(row, { ours: [], peer: [], floor: [] });
  const efforts = works.map((work) => ({ work, efforts: new Map() as Efforts }));

  const each = async (ms: number, take: boolean, reversed: boolean): Promise<void> => {
    for (const { work, efforts: spent } of efforts) {
      const able = contenders.filter((contender) => contender.can(work));
      // Who goes first changes from round to round.
      for (const contender of reversed ? able.reverse() : able) {
        const { reading, effort } = await contender.run(work, ms);
        if (!take) continue;
        for (const [row, value] of Object.entries(reading))
          values.get(row as RowName)?.[contender.side].push(value);
        addEffort(spent, contender.side, effort);
      }
    }
  };
  if (warmUpMs > 0) await each(warmUpMs, false, false);
  for (let round = 0; round < rounds; round++) {
    await each(durationMs, true, round % 2 === 1);
    onProgress?.(`round ${round + 1} of ${rounds} is done`);
  }
  const records = [...values].map(([row, found]) => makeRecord(row, found));
  return { records, efforts };
}

function addEffort(efforts: Efforts, side: Side, { deviceSeconds, driverSeconds }: Effort): void {
  const sum = efforts.get(side) ?? { deviceSeconds: 0, driverSeconds: 0 };
  sum.deviceSeconds += deviceSeconds;
  sum.driverSeconds += driverSeconds;
  efforts.set(side, sum);
}
