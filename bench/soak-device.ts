/** The device of a soak: `bit33 serve` with its defaults in a process of its own, a probe inside, and its log. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { ownGroup } from "./device-process.js";
import { COLLECT_FILE, type HeapSample, PROBE_FOLDER, sampleHeaps } from "./soak-sample.js";

const MAIN = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
const PROBE = new URL("./soak-probe.js", import.meta.url).href;
const LOOK_MS = 50;
const PATIENCE_MS = 20_000;

export interface DeviceVm {
  readonly cid: number;
  readonly socketPath: string;
  readonly udsPath: string;
}

export class SoakDevice {
  /** What it logged at level "error". */
  readonly errors: string[] = [];
  /** How often it logged each event, and of those at level "warn" the first message. */
  readonly events = new Map<string, number>();
  readonly warnings = new Map<string, string>();
  readonly #child: ChildProcess;
  readonly #probeFolder: string;
  readonly #threads: number;
  #collections = 0;

  private constructor(folder: string, vms: readonly DeviceVm[]) {
    this.#probeFolder = join(folder, "probe");
    mkdirSync(this.#probeFolder);
    // One a VM, and the main one.
    this.#threads = vms.length + 1;
    const options = vms.flatMap(({ cid, socketPath, udsPath }, index) => [
      "--vm",
      `guest-cid=${cid},socket=${socketPath},uds-path=${udsPath},groups=${ownGroup(index)}`,
    ]);
    this.#child = spawn(
      process.execPath,
      ["--expose-gc", "--import", PROBE, MAIN, "serve", ...options, "--log-format", "json"],
      {
        stdio: ["ignore", "ignore", "pipe"],
        env: { ...process.env, [PROBE_FOLDER]: this.#probeFolder },
      },
    );
    if (this.#child.stderr !== null)
      createInterface({ input: this.#child.stderr }).on("line", (line) => this.#line(line));
  }

  static async start(folder: string, vms: readonly DeviceVm[]): Promise<SoakDevice> {
    const device = new SoakDevice(folder, vms);
    await device.#until(() => (device.events.get("listening") ?? 0) === vms.length, "it listens");
    await device.#until(() => device.heaps !== undefined, "its probes answer");
    return device;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  get heaps(): HeapSample | undefined {
    return sampleHeaps(this.#probeFolder, this.#threads);
  }

  /** Has all threads collect their rubbish, and returns what is left. */
  async collect(): Promise<HeapSample> {
    const wanted = ++this.#collections;
    writeFileSync(join(this.#probeFolder, COLLECT_FILE), `${wanted}`);
    let found = this.heaps;
    await this.#until(() => {
      found = this.heaps;
      return found !== undefined && found.collection >= wanted;
    }, "its probes collect");
    return found as HeapSample;
  }

  async stop(): Promise<void> {
    if (this.hasEnded) return;
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 5000);
    await ended;
    clearTimeout(timer);
  }

  #line(line: string): void {
    if (!line.startsWith("{")) {
      this.errors.push(line);
      return;
    }
    const { event, level, message } = JSON.parse(line) as { event: string; level: string; message: string };
    this.events.set(event, (this.events.get(event) ?? 0) + 1);
    if (level === "warn" && !this.warnings.has(event)) this.warnings.set(event, message);
    if (level === "error") this.errors.push(`${event}: ${message}`);
  }

  async #until(condition: () => boolean, what: string): Promise<void> {
    const deadlineMs = performance.now() + PATIENCE_MS;
    while (!condition()) {
      if (this.hasEnded) throw new Error(`the device has ended: ${this.errors.join("; ")}`);
      if (performance.now() > deadlineMs) throw new Error(`waited ${PATIENCE_MS} ms until ${what}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }
}
