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
  /** How many VMs it is to serve; default 1. */
  readonly vms?: number;
  /** Whether they are siblings. Otherwise each is in a group, and so in ours on a thread, of its own. */
  readonly siblings?: boolean;
}

/** A program with its arguments. */
export interface CommandLine {
  readonly program: string;
  readonly args: readonly string[];
}

/** How our device is started, without its VMs. */
export function ourCommand(nodeOptions: readonly string[] = []): CommandLine {
  return { program: process.execPath, args: [...nodeOptions, MAIN, "serve"] };
}

/** The sockets of the VM of this index. */
export function socketsIn(folder: string, index = 0): { socketPath: string; udsPath: string } {
  const suffix = index === 0 ? "" : `-${index}`;
  return { socketPath: join(folder, `vhost${suffix}`), udsPath: join(folder, `vsock${suffix}`) };
}

/** The option that describes the VM of this index, which is the same for both devices. */
export function vmOption(
  folder: string,
  index = 0,
  { bufferBytes, siblings = false }: Pick<DeviceOptions, "bufferBytes" | "siblings"> = {},
): string[] {
  const { socketPath, udsPath } = socketsIn(folder, index);
  const buffer = bufferBytes === undefined ? "" : `,tx-buffer-size=${bufferBytes}`;
  const groups = siblings ? "" : `,groups=${ownGroup(index)}`;
  return [
    "--vm",
    `guest-cid=${GUEST_CID + index},socket=${socketPath},uds-path=${udsPath}${buffer}${groups}`,
  ];
}

/** A group for the VM of this index alone: VMs that name none are siblings, and share a thread. */
export function ownGroup(index: number): string {
  return `vm-${index}`;
}

export class DeviceProcess {
  /** Of the first VM. */
  readonly socketPath: string;
  readonly udsPath: string;
  /** Of all VMs. */
  readonly socketPaths: readonly string[];
  readonly #child: ChildProcess;
  #said = "";

  private constructor({ program, args }: CommandLine, deviceOptions: DeviceOptions) {
    const { folder, vms = 1 } = deviceOptions;
    const indices = Array.from({ length: vms }, (_, index) => index);
    this.socketPaths = indices.map((index) => socketsIn(folder, index).socketPath);
    this.socketPath = this.socketPaths[0];
    this.udsPath = socketsIn(folder).udsPath;
    const options = indices.flatMap((index) => vmOption(folder, index, deviceOptions));
    this.#child = spawn(program, [...args, ...options], { stdio: ["ignore", "ignore", "pipe"] });
    this.#child.stderr?.on("data", (text: Buffer) => {
      this.#said = (this.#said + text.toString()).slice(-4000);
    });
  }

  static ours(options: DeviceOptions): Promise<DeviceProcess> {
    return new DeviceProcess(ourCommand(options.nodeOptions), options).#listening();
  }

  static peer(program: string, options: DeviceOptions): Promise<DeviceProcess> {
    return new DeviceProcess({ program, args: [] }, options).#listening();
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
    while (!this.socketPaths.every((path) => existsSync(path))) {
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
