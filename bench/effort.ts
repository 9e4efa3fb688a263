/**
 * The CPU time that a run takes: of the device, by thread, and of the two programs that drive it. A reading before, one
 * after, and sums over the rounds.
 */
import { cpuSeconds, machineSeconds, type ThreadTime, threadTimes } from "./proc-stat.js";
import type { Busy } from "./record.js";

/** Who takes part in a run. */
export interface Participants {
  /** Undefined: there is no device, as on the floor. */
  readonly device: number | undefined;
  readonly driver: number;
  readonly host: number;
}

/** What a run took beside its rows: CPU seconds of each process, and of the device's threads. */
export interface Effort {
  /** What the CPU seconds are to be compared with: the time measured. */
  readonly measuredSeconds: number;
  /** 0 without a device. */
  readonly deviceSeconds: number;
  readonly driverSeconds: number;
  readonly hostSeconds: number;
  /** What the rest of the machine did meanwhile, from ticks: too coarse for one run. */
  readonly otherSeconds: number;
  /** The device's threads, with what each did during the run. */
  readonly threads: readonly ThreadTime[];
}

/** CPU seconds so far. */
interface Snapshot {
  readonly machine: number;
  readonly device: number;
  readonly driver: number;
  readonly host: number;
  readonly threads: readonly ThreadTime[];
}

export class EffortClock {
  readonly #pids: Participants;
  readonly #before: Snapshot;

  constructor(pids: Participants) {
    this.#pids = pids;
    this.#before = this.#read();
  }

  stop(measuredSeconds: number): Effort {
    const [before, after] = [this.#before, this.#read()];
    const earlier = new Map(before.threads.map(({ tid, seconds }) => [tid, seconds]));
    const deviceSeconds = after.device - before.device;
    const driverSeconds = after.driver - before.driver;
    const hostSeconds = after.host - before.host;
    return {
      measuredSeconds,
      deviceSeconds,
      driverSeconds,
      hostSeconds,
      otherSeconds: after.machine - before.machine - deviceSeconds - driverSeconds - hostSeconds,
      threads: after.threads.map((thread) => ({
        ...thread,
        seconds: thread.seconds - (earlier.get(thread.tid) ?? 0),
      })),
    };
  }

  #read(): Snapshot {
    const { device, driver, host } = this.#pids;
    return {
      machine: machineSeconds(),
      device: device === undefined ? 0 : cpuSeconds(device),
      driver: cpuSeconds(driver),
      host: cpuSeconds(host),
      threads: device === undefined ? [] : threadTimes(device),
    };
  }
}

/** The shares of several runs of one work, all of their time together. */
export function busyOf(efforts: readonly Effort[], hasDevice: boolean): Busy {
  const measured = sum(efforts.map(({ measuredSeconds }) => measuredSeconds));
  const share = (of: (effort: Effort) => number): number => sum(efforts.map(of)) / measured;
  const threads = new Map<number, { name: string; seconds: number }>();
  for (const { tid, name, seconds } of efforts.flatMap((effort) => effort.threads)) {
    const known = threads.get(tid);
    if (known === undefined) threads.set(tid, { name, seconds });
    else known.seconds += seconds;
  }
  return {
    device: hasDevice ? share(({ deviceSeconds }) => deviceSeconds) : undefined,
    threads: [...threads.values()].map(({ name, seconds }) => ({ name, busy: seconds / measured })),
    driver: share(({ driverSeconds }) => driverSeconds),
    host: share(({ hostSeconds }) => hostSeconds),
    // Ticks are counted where they fall, so that of a quiet machine this may come out below nothing.
    other: Math.max(
      0,
      share(({ otherSeconds }) => otherSeconds),
    ),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
