/**
 * One soak: a device, the processes of its VMs, a VM that reconnects now and then, and samples of what the device's process
 * has. Starts and ends everything that takes part.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PlatformOptions } from "../src/guest/platform.js";
import { Company } from "./soak-company.js";
import { type DeviceVm, SoakDevice } from "./soak-device.js";
import { totalOf } from "./soak-messages.js";
import { Pace } from "./soak-pace.js";
import { Chance } from "./soak-random.js";
import { sampleProcess, waitedSeconds } from "./soak-sample.js";
import { type SoakSample, statusOf, type Verdict, verdictOf } from "./soak-verdict.js";

export interface SoakOptions {
  readonly minutes: number;
  /** Share of one processor that the device and its load may use together. */
  readonly load: number;
  readonly sampleMs: number;
  /** How often everything comes to an end, and is looked at when nothing is under way. */
  readonly quietMs: number;
  /** How often a VM leaves and comes back. */
  readonly rebootMs: number;
  readonly seed: number;
  readonly onLine: (line: object) => void;
}

/**
 * Linux and the device give a connection 2 seconds to be answered. Later is a fault, unless the threads that take part have
 * together waited for a processor for as long, in this and the last interval between two samples.
 */
const EXCUSING_SECONDS = 2;
/** For what is on its way when the last scene is over. */
const SETTLING_MS = 300;
const LONGEST_OFF_MS = 300;
const MOST_REPORTED = 20;
/** Of the seeds of two VMs: each uses a few from its own on. */
const SEED_STRIDE = 1000;

/** The machines of each VM, one after the other: whenever it gets new memory, the next one. */
const VMS: readonly (readonly PlatformOptions[])[] = [
  [{ kind: "direct" }],
  [
    { kind: "viommu", unmapping: "strict" },
    { kind: "viommu", unmapping: "lazy" },
  ],
];

export async function runSoak(options: SoakOptions): Promise<{ verdict: Verdict; status: number }> {
  const folder = mkdtempSync(join(tmpdir(), "b33-soak-"));
  const places: DeviceVm[] = VMS.map((_, index) => ({
    cid: 3 + index,
    socketPath: join(folder, `vhost${index}`),
    udsPath: join(folder, `vsock${index}`),
  }));
  const companies: Company[] = [];
  let device: SoakDevice | undefined;
  try {
    device = await SoakDevice.start(folder, places);
    for (const [index, { socketPath, udsPath }] of places.entries()) {
      const company = new Company();
      companies.push(company);
      const seed = options.seed + SEED_STRIDE * (index + 1);
      await company.order({ do: "begin", socketPath, udsPath, machines: VMS[index], seed });
    }
    const verdict = await new Soak(options, device, companies).run();
    return { verdict, status: statusOf(verdict) };
  } finally {
    for (const company of companies) company.stop();
    await device?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

class Soak {
  readonly #options: SoakOptions;
  readonly #device: SoakDevice;
  readonly #companies: readonly Company[];
  readonly #pace: Pace;
  readonly #pids: readonly number[];
  readonly #chance: Chance;
  readonly #samples: SoakSample[] = [];
  readonly #beganMs = performance.now();
  readonly #beganCpuSeconds: number;
  /** Of the soak itself: a VM that did not come back. */
  readonly #problems: string[] = [];
  /** Troubles that were told already. */
  readonly #told = new Set<string>();
  #nextToReboot = 0;
  /** Seconds that were waited in all, before the last two intervals and before the last. */
  #waits: readonly [number, number];
  #lateBefore = 0;
  #lateForNoReason = 0;

  constructor(options: SoakOptions, device: SoakDevice, companies: readonly Company[]) {
    this.#options = options;
    this.#device = device;
    this.#companies = companies;
    this.#pids = [device.pid, process.pid, ...companies.map(({ pid }) => pid)];
    this.#pace = new Pace(this.#pids, options.load);
    this.#waits = [this.#waited, this.#waited];
    this.#beganCpuSeconds = this.#pace.cpuSeconds;
    this.#chance = new Chance(options.seed);
  }

  async run(): Promise<Verdict> {
    const { minutes, quietMs, rebootMs, sampleMs } = this.#options;
    const endMs = minutes * 60_000;
    let [quietDueMs, rebootDueMs] = [quietMs, rebootMs];
    while (this.#elapsedMs < endMs && this.#problems.length === 0) {
      await pause(Math.min(sampleMs, endMs - this.#elapsedMs));
      this.#pace.adjust();
      await this.#all({ do: "report", restMs: this.#pace.restMs });
      this.#judgeLateness();
      if (this.#elapsedMs >= rebootDueMs) {
        rebootDueMs = this.#elapsedMs + rebootMs;
        await this.#rebootNext();
      }
      const isQuiet = this.#elapsedMs >= quietDueMs;
      if (isQuiet) quietDueMs = this.#elapsedMs + quietMs;
      await (isQuiet ? this.#quietSample() : this.#sample(false));
    }
    await this.#all({ do: "end" });
    return this.#conclude();
  }

  get #waited(): number {
    return this.#pids.reduce((sum, pid) => sum + waitedSeconds(pid), 0);
  }

  #judgeLateness(): void {
    const { late } = this.#total;
    const waited = this.#waited;
    const [before, last] = this.#waits;
    if (late > this.#lateBefore && waited - before < EXCUSING_SECONDS)
      this.#lateForNoReason += late - this.#lateBefore;
    this.#waits = [last, waited];
    this.#lateBefore = late;
  }

  get #elapsedMs(): number {
    return performance.now() - this.#beganMs;
  }

  async #all(order: Parameters<Company["order"]>[0]): Promise<void> {
    const done = await Promise.allSettled(this.#companies.map((company) => company.order(order)));
    for (const result of done) if (result.status === "rejected") this.#problems.push(String(result.reason));
  }

  async #rebootNext(): Promise<void> {
    const company = this.#companies[this.#nextToReboot++ % this.#companies.length];
    const [orderly, newMachine] = [this.#chance.isLikely(0.5), this.#chance.isLikely(0.5)];
    const offMs = this.#chance.between(0, LONGEST_OFF_MS);
    try {
      await company.order({ do: "reboot", orderly, newMachine, offMs });
    } catch (error) {
      this.#problems.push(String(error));
    }
  }

  /** When every scene has come to its end, and before new ones begin. */
  async #quietSample(): Promise<void> {
    await this.#all({ do: "hold" });
    await pause(SETTLING_MS);
    await this.#device.collect();
    await this.#sample(true);
    await this.#all({ do: "go-on" });
  }

  async #sample(quiet: boolean): Promise<void> {
    const { heaps } = this.#device;
    if (this.#device.hasEnded || heaps === undefined)
      throw new Error(`the device has ended: ${this.#device.errors.join("; ")}`);
    const sample = {
      sample: this.#samples.length + 1,
      seconds: tenths(this.#elapsedMs / 1000),
      quiet,
      ...sampleProcess(this.#device.pid),
      heapUsedBytes: heaps.usedBytes,
      heapLiveBytes: heaps.liveBytes,
      externalBytes: heaps.externalBytes,
    };
    this.#samples.push(sample);
    this.#options.onLine({ ...sample, ...this.#progress });
    const { troubles } = this.#total;
    for (const trouble of troubles.filter((text) => !this.#told.has(text))) {
      this.#told.add(trouble);
      this.#options.onLine({ trouble });
    }
  }

  get #total() {
    return totalOf(this.#companies.flatMap(({ tally }) => (tally === undefined ? [] : [tally])));
  }

  get #progress() {
    const { played, opened, movedBytes, reboots, cutOff, late, corrupt, failures } = this.#total;
    return {
      scenes: Object.values(played).reduce((sum, count) => sum + count, 0),
      opened,
      movedMiB: Math.round(movedBytes / 2 ** 20),
      reboots,
      cutOff,
      late,
      lateForNoReason: this.#lateForNoReason,
      corrupt,
      failures,
      cpuSeconds: tenths(this.#pace.cpuSeconds),
      waitedSeconds: tenths(this.#waited),
    };
  }

  #conclude(): Verdict {
    const { corrupt, failures, played, troubles } = this.#total;
    const { errors, events, warnings } = this.#device;
    const others = this.#lateForNoReason + errors.length + this.#problems.length;
    const incidents = { corrupt, failures: failures + others };
    const { verdict, trends } = verdictOf(this.#samples, incidents);
    const cpuSeconds = this.#pace.cpuSeconds - this.#beganCpuSeconds;
    this.#options.onLine({
      verdict,
      minutes: tenths(this.#elapsedMs / 60_000),
      samples: this.#samples.length,
      ...this.#progress,
      load: Math.round((cpuSeconds / (this.#elapsedMs / 1000)) * 100) / 100,
      seed: this.#options.seed,
      played,
      trends,
      deviceEvents: Object.fromEntries(events),
      deviceWarnings: Object.fromEntries(warnings),
      troubles: [...this.#problems, ...errors, ...troubles].slice(0, MOST_REPORTED),
    });
    return verdict;
  }
}

function tenths(value: number): number {
  return Math.round(value * 10) / 10;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
