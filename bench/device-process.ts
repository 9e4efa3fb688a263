/** The devices that are measured, each in a process of its own with the options that a user would give. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
const GUEST_CID = 3;
const PATIENCE_MS = 10_000;
/** From the file that `bind` makes to `listen`. */
const SETTLING_MS = 50;

export interface DeviceOptions {
  /** A folder of its own for the sockets. */
  readonly folder: string;
  /** The buffer that is advertised to each connection; undefined: the device's default. */
  readonly bufferBytes?: number | undefined;
  /** For ours: options of node, such as `--cpu-prof`. */
  readonly nodeOptions?: readonly string[];
}

export class DeviceProcess {
  readonly socketPath: string;
  readonly udsPath: string;
  readonly #child: ChildProcess;
  #said = "";

  private constructor(program: string, before: readonly string[], options: DeviceOptions) {
    this.socketPath = join(options.folder, "vhost");
    this.udsPath = join(options.folder, "vsock");
    const buffer = options.bufferBytes === undefined ? "" : `,tx-buffer-size=${options.bufferBytes}`;
    const vm = `guest-cid=${GUEST_CID},socket=${this.socketPath},uds-path=${this.udsPath}${buffer}`;
    this.#child = spawn(program, [...before, "--vm", vm], { stdio: ["ignore", "ignore", "pipe"] });
    this.#child.stderr?.on("data", (text: Buffer) => {
      this.#said = (this.#said + text.toString()).slice(-4000);
    });
  }

  static ours(options: DeviceOptions): Promise<DeviceProcess> {
    const device = new DeviceProcess(
      process.execPath,
      [...(options.nodeOptions ?? []), MAIN, "serve"],
      options,
    );
    return device.#listening();
  }

  static peer(program: string, options: DeviceOptions): Promise<DeviceProcess> {
    return new DeviceProcess(program, [], options).#listening();
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** What it wrote last: why it did not do what it should. */
  get said(): string {
    return this.#said;
  }

  async #listening(): Promise<DeviceProcess> {
    const deadlineMs = performance.now() + PATIENCE_MS;
    while (!existsSync(this.socketPath)) {
      if (this.#child.exitCode !== null || performance.now() > deadlineMs)
        throw new Error(`${this.#child.spawnfile} does not listen: ${this.#said}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await new Promise((resolve) => setTimeout(resolve, SETTLING_MS));
    return this;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 3000);
    await ended;
    clearTimeout(timer);
  }
}
