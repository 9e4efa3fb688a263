/** The processes behind one point of a curve: a daemon, its guests' drivers, and the host's program. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Outcome } from "./commands.js";
import { CurveChild } from "./curves-child.js";
import type { CurveGuestCommand, CurveHostCommand } from "./curves-commands.js";
import { Daemon } from "./curves-device.js";
import { Progress } from "./progress.js";
import { ranSeconds } from "./soak-sample.js";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
export const MESSAGE_BYTES = 4096;
const GUEST_PORT = 5000;

/** What one run found: MiB/s, and CPU seconds of the daemon per GiB. */
export interface Flow {
  readonly rate: number;
  readonly cpu: number;
}

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

  /** From the guest, on so many connections in turn, while so many others are open and idle. */
  async toHost(durationMs: number, { connections = 1, idle = 0, vm = 0 } = {}): Promise<Flow> {
    return this.#run(async () => {
      const port = this.#ports++;
      await this.#host.ask({ do: "listen", path: `${this.daemon.vms[vm].udsPath}_${port}` });
      const all = connections + idle;
      await this.#both(
        this.#guest.ask(
          this.#hasRegions ? { do: "open-regions", port } : { do: "open", vm, port, connections: all },
        ),
        this.#host.ask({ do: "hold", connections: all }),
      );
      const sending = { messageBytes: MESSAGE_BYTES, durationMs };
      return this.#flow(
        this.#hasRegions ? { do: "send-regions", ...sending } : { do: "send", vm, connections, ...sending },
        { do: "read", connections },
      );
    });
  }

  /** To the guest, on one connection. */
  async toGuest(durationMs: number): Promise<Flow> {
    const path = this.daemon.vms[0].udsPath;
    return this.#run(() =>
      this.#flow(
        { do: this.#hasRegions ? "receive-regions" : "receive" },
        { do: "send", path, port: GUEST_PORT, messageBytes: MESSAGE_BYTES, durationMs },
      ),
    );
  }

  /** From all VMs, of which one sends at a time. */
  async inTurn(durationMs: number, turnMs: number): Promise<Flow> {
    return this.#run(async () => {
      const port = this.#ports++;
      const paths = this.daemon.vms.map(({ udsPath }) => `${udsPath}_${port}`);
      await this.#host.ask({ do: "listen-each", paths });
      await this.#both(
        this.#guest.ask({ do: "open-each", port }),
        this.#host.ask({ do: "hold", connections: paths.length }),
      );
      return this.#flow(
        { do: "send-in-turn", turnMs, messageBytes: MESSAGE_BYTES, durationMs },
        { do: "read", connections: paths.length },
      );
    });
  }

  async #flow(guest: CurveGuestCommand, host: CurveHostCommand): Promise<Flow> {
    const before = ranSeconds(this.daemon.pid);
    const [atGuest, atHost] = await this.#both(this.#guest.ask(guest), this.#host.ask(host));
    const deviceSeconds = ranSeconds(this.daemon.pid) - before;
    if (atGuest.count !== atHost.count)
      throw new Error(`the guest counts ${atGuest.count} bytes, and the host ${atHost.count}`);
    const [sent, got] = host.do === "send" ? [atHost, atGuest] : [atGuest, atHost];
    const seconds = (got.endedNs - sent.beganNs) / 1e9;
    return { rate: got.count / MIB / seconds, cpu: deviceSeconds / (got.count / GIB) };
  }

  /** Whoever fails says so, and the other one is not left waiting. */
  async #both(one: Promise<Outcome>, other: Promise<Outcome>): Promise<[Outcome, Outcome]> {
    const giveUp = (): void => this.#progress.end(0);
    one.catch(giveUp);
    other.catch(giveUp);
    return Promise.all([one, other]);
  }

  /** One run, which leaves no connection behind. */
  async #run(measure: () => Promise<Flow>): Promise<Flow> {
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
