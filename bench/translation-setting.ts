/** The processes of the measurements on translation: devices of ours, each with a guest, and one host program. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Addressing, GuestCommand, HostCommand } from "./commands.js";
import { Contender } from "./contender.js";
import { DeviceProcess } from "./device-process.js";
import { Program } from "./program.js";
import { Progress } from "./progress.js";
import { rowsOf, type Work } from "./rows.js";
import { MIB, type Sample } from "./translation-rows.js";

const QUEUE_SIZE = 256;

export interface SettingOptions {
  /** Default 256. */
  readonly queueSize?: number | undefined;
  /** Options of node for the devices. */
  readonly nodeOptions?: readonly string[] | undefined;
}

export class TranslationSetting {
  readonly #options: SettingOptions;
  readonly #folder: string;
  readonly #progress: Progress;
  readonly #progressPath: string;
  readonly #host: Program<HostCommand>;
  readonly #stops: (() => void | Promise<void>)[] = [];

  constructor(options: SettingOptions = {}) {
    this.#options = options;
    this.#folder = mkdtempSync(join(tmpdir(), "b33-translation-"));
    this.#progressPath = join(this.#folder, "progress");
    this.#progress = new Progress(this.#progressPath);
    this.#host = Program.host(this.#progressPath);
    this.#stops.push(() => this.#host.stop());
  }

  /** A device of its own with a guest that addresses its memory so. */
  async add(name: string, addressing: Addressing): Promise<MeasuredGuest> {
    const folder = join(this.#folder, name);
    mkdirSync(folder);
    const { queueSize = QUEUE_SIZE, nodeOptions = [] } = this.#options;
    const device = await DeviceProcess.ours({ folder, nodeOptions });
    this.#stops.push(() => device.stop());
    const guest = Program.guest(`the guest of ${name}`, this.#progressPath);
    this.#stops.push(() => guest.stop());
    const { socketPath } = device;
    await guest.ask({ do: "attach", socketPath, queueSize, lazyCredit: false, addressing });
    const parts = {
      side: "ours",
      guest,
      host: this.#host,
      progress: this.#progress,
      device,
      folder,
    } as const;
    return new MeasuredGuest(new Contender(parts), guest);
  }

  async close(): Promise<void> {
    for (const stop of this.#stops.reverse()) await stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export class MeasuredGuest {
  constructor(
    private readonly contender: Contender,
    private readonly guest: Program<GuestCommand>,
  ) {}

  /** Runs a stream for so long. */
  async run(work: Work, durationMs: number): Promise<Sample> {
    await this.guest.ask({ do: "tally" });
    const { reading, effort } = await this.contender.run(work, durationMs);
    const { tally } = await this.guest.ask({ do: "tally" });
    const seconds = effort.measuredSeconds;
    return {
      bytes: (reading[rowsOf(work)[0]] ?? Number.NaN) * MIB * seconds,
      seconds,
      deviceCpuSeconds: effort.deviceSeconds,
      driverCpuSeconds: effort.driverSeconds,
      tally,
    };
  }
}
