/** The daemon of a curve: `bit33 serve` with so many VMs, in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { ownGroup } from "./device-process.js";

const MAIN = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
const PATIENCE_MS = 30_000;
const FIRST_CID = 3;
/** Above the default, for the end of the curve. */
const MOST_CONNECTIONS = 16_384;

export interface DaemonVm {
  readonly socketPath: string;
  readonly udsPath: string;
}

export class Daemon {
  readonly vms: readonly DaemonVm[];
  readonly #child: ChildProcess;
  #said = "";

  private constructor(folder: string, vmCount: number, nodeOptions: readonly string[]) {
    this.vms = Array.from({ length: vmCount }, (_, index) => ({
      socketPath: join(folder, `vhost${index}`),
      udsPath: join(folder, `vsock${index}`),
    }));
    const options = this.vms.flatMap(({ socketPath, udsPath }, index) => [
      "--vm",
      `guest-cid=${FIRST_CID + index},socket=${socketPath},uds-path=${udsPath},max-connections=${MOST_CONNECTIONS},groups=${ownGroup(index)}`,
    ]);
    this.#child = spawn(
      process.execPath,
      [...nodeOptions, MAIN, "serve", ...options, "--log-format", "json"],
      {
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
  }

  static async start(folder: string, vmCount: number, nodeOptions: readonly string[] = []): Promise<Daemon> {
    const daemon = new Daemon(folder, vmCount, nodeOptions);
    await daemon.#listening();
    return daemon;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** What it wrote last, but for the lines on every VM that is served. */
  get said(): string {
    return this.#said;
  }

  #listening(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the daemon does not listen")), PATIENCE_MS);
      let listening = 0;
      if (this.#child.stderr !== null) {
        createInterface({ input: this.#child.stderr }).on("line", (line) => {
          if (line.includes('"level":"warn"') || line.includes('"level":"error"') || !line.startsWith("{"))
            this.#said = `${this.#said}\n${line}`.slice(-2000);
          if (line.includes('"event":"listening"') && ++listening === this.vms.length) {
            clearTimeout(timer);
            resolve();
          }
        });
      }
      this.#child.once("exit", () => {
        clearTimeout(timer);
        reject(new Error(`the daemon has ended: ${this.#said}`));
      });
    });
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 5000);
    await ended;
    clearTimeout(timer);
  }
}
