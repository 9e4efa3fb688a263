/** The processes behind one point of a curve: a daemon, its guests' drivers, and the host's program. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Outcome } from "./commands.js";
import { CurveChild } from "./curves-child.js";
import type { CurveGuestCommand, CurveHostCommand } from "./curves-commands.js";
import { Daemon } from "./curves-device.js";
import { Progress } from "./progress.js";

const MIB = 2 ** 20;
export const MESSAGE_BYTES = 4096;
const GUEST_PORT = 5000;

export interface SettingOptions {
  readonly vms?: number;
  readonly queueSize?: number;
  /** Cuts the memory of the only VM into so many regions, which a driver of its own uses. */
  readonly regions?: number;
  readonly nodeOptions?: readonly string[];
}

export class CurveSetting {
  readonly daemon: Daemon;
  readonly #folder: string;
  readonly #progress: Progress;
  readonly #guest: CurveChild<CurveGuestCommand>;
  readonly #host: CurveChild<CurveHostCommand>;
  readonly #hasRegions: boolean;
  #ports = 1024;

  private constructor(folder: string, daemon: Daemon, hasRegions: boolean) {
    this.daemon = daemon;
    this.#folder = folder;
    this.#hasRegions = hasRegions;
    const progressPath = join(folder, "progress");
    this.#progress = new Progress(progressPath);
    this.#guest = new CurveChild("./curves-guest.js", progressPath);
    this.#host = new CurveChild("./curves-host.js", progressPath);
  }

  static async start({
    vms = 1,
    queueSize = 256,
    regions,
    nodeOptions,
  }: SettingOptions): Promise<CurveSetting> {
    const folder = mkdtempSync(join(tmpdir(), "b33-curve-"));
    const own = join(folder, "d");
    mkdirSync(own);
    const daemon = await Daemon.start(own, vms, nodeOptions);
    const setting = new CurveSetting(folder, daemon, regions !== undefined);
    const socketPaths = daemon.vms.map(({ socketPath }) => socketPath);
    try {
      if (regions === undefined) await setting.#guest.ask({ do: "attach", socketPaths, queueSize });
      else await setting.#guest.ask({ do: "attach-regions", socketPath: socketPaths[0], regions });
    } catch (error) {
      await setting.close();
      throw error;
    }
    return setting;
  }

  /** MiB/s from the guest, on so many connections in turn, while so many others are open and idle. */
  async toHost(durationMs: number, { connections = 1, idle = 0, vm = 0 } = {}): Promise<number> {
    return this.#run(async () => {
      if (idle > 0) {
        const port = await this.#listen(0);
        await Promise.all([
          this.#guest.ask({ do: "idle", port, connections: idle }),
          this.#host.ask({ do: "hold", connections: idle }),
        ]);
      }
      const port = await this.#listen(vm);
      const sending = { port, messageBytes: MESSAGE_BYTES, durationMs };
      return this.#rate(
        this.#guest.ask(
          this.#hasRegions ? { do: "send-regions", ...sending } : { do: "send", vm, connections, ...sending },
        ),
        this.#host.ask({ do: "receive", connections, snapshotMs: 0 }),
      );
    });
  }

  /** MiB/s to the guest, on one connection. */
  async toGuest(durationMs: number): Promise<number> {
    const path = this.daemon.vms[0].udsPath;
    return this.#run(() =>
      this.#rate(
        this.#host.ask({ do: "send", path, port: GUEST_PORT, messageBytes: MESSAGE_BYTES, durationMs }),
        this.#guest.ask({ do: this.#hasRegions ? "receive-regions" : "receive" }),
      ),
    );
  }

  /** MiB/s from all VMs, of which one sends at a time. */
  async inTurn(durationMs: number, turnMs: number): Promise<number> {
    const port = this.#ports++;
    const paths = this.daemon.vms.map(({ udsPath }) => `${udsPath}_${port}`);
    return this.#run(() => {
      const receiving = this.#host.ask({ do: "receive-each", paths });
      // It listens before anybody asks for a connection.
      const sending = new Promise((resolve) => setTimeout(resolve, 50)).then(() =>
        this.#guest.ask({ do: "send-in-turn", port, turnMs, messageBytes: MESSAGE_BYTES, durationMs }),
      );
      return this.#rate(sending, receiving);
    });
  }

  async #listen(vm: number): Promise<number> {
    const port = this.#ports++;
    await this.#host.ask({ do: "listen", path: `${this.daemon.vms[vm].udsPath}_${port}` });
    return port;
  }

  async #rate(sending: Promise<Outcome>, receiving: Promise<Outcome>): Promise<number> {
    const giveUp = (): void => this.#progress.end(0);
    sending.catch(giveUp);
    receiving.catch(giveUp);
    const [sent, got] = await Promise.all([sending, receiving]);
    if (sent.count !== got.count) throw new Error(`${sent.count} bytes were sent, and ${got.count} came`);
    return got.count / MIB / ((got.endedNs - sent.beganNs) / 1e9);
  }

  /** One run, which leaves no connection behind. */
  async #run(measure: () => Promise<number>): Promise<number> {
    this.#progress.reset();
    try {
      const found = await measure();
      await this.#guest.ask({ do: "hang-up" });
      await this.#host.ask({ do: "hang-up" });
      return found;
    } catch (cause) {
      throw new Error(
        `${String(cause)}${this.daemon.said === "" ? "" : `; the daemon: ${this.daemon.said}`}`,
        {
          cause,
        },
      );
    }
  }

  async close(): Promise<void> {
    this.#guest.stop();
    this.#host.stop();
    await this.daemon.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
