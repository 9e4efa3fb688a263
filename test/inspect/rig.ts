/** `bit33 inspect` as a process, between a guest of the tests and `bit33 serve`: what it says, and how it ends. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { builtinVmm } from "../../src/profiles/builtin.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { VirtualMachine, type VirtualMachineOptions } from "../../src/vmm/virtual-machine.js";
import { ServeRig } from "../serve-rig.js";

const MAIN = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const MODELLED = fileURLToPath(new URL("./modelled-back-end.js", import.meta.url));
export const CID = 3;

export type Entry = Readonly<Record<string, unknown>>;

/** Back-ends that translate as they are told to. */
class TranslatingServeRig extends ServeRig {
  iotlb: "auto" | "on" = "auto";

  override vmOption(cid: number): string {
    return `${super.vmOption(cid)},iotlb=${this.iotlb}`;
  }
}

/** A back-end, an interposer and guests, everything closed behind a test. */
export class InspectRig {
  readonly serve = new TranslatingServeRig();
  readonly lines: string[] = [];
  readonly complaints: string[] = [];
  readonly #machines = new Set<VirtualMachine>();
  #backEnd: ChildProcess | undefined;
  #child: ChildProcess | undefined;
  #exit: Promise<unknown[]> = Promise.resolve([]);

  /** Starts the interposer, and waits until it listens. */
  async inspect(...options: string[]): Promise<void> {
    const ends = ["--listen", this.path("front"), "--connect", this.path(`vm${CID}.sock`)];
    const child = spawn(process.execPath, [MAIN, "inspect", ...ends, ...options], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    this.#exit = once(child, "close");
    createInterface(child.stdout).on("line", (line) => this.lines.push(line));
    createInterface(child.stderr).on("line", (line) => this.complaints.push(line));
    await this.until(() => this.complaints.some((line) => line.startsWith("inspecting:")), "it listens");
  }

  /** Starts somebody else's back-end in the place of `bit33 serve`, as a device profile has it. */
  async playBackEnd(profile: string): Promise<void> {
    const ends = [this.path(`vm${CID}.sock`), this.path(`vm${CID}.vsock`)];
    const child = spawn(process.execPath, [MODELLED, profile, ...ends, String(CID)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#backEnd = child;
    await once(child.stdout, "data");
  }

  path(name: string): string {
    return this.serve.path(name);
  }

  until(condition: () => boolean, what: string): Promise<void> {
    return this.serve.until(
      condition,
      `${what}; ${[...this.complaints, ...this.lines.slice(-5)].join("\n")}`,
    );
  }

  /** What it said as JSON, of one kind. */
  records(kind: string): Entry[] {
    return this.lines.map((line) => JSON.parse(line) as Entry).filter((entry) => entry.kind === kind);
  }

  /** Waits for a record that a test is about. */
  async record(kind: string, isIt: (entry: Entry) => boolean = () => true): Promise<Entry> {
    await this.until(() => this.records(kind).some(isIt), `a ${kind}`);
    const found = this.records(kind).find(isIt);
    assert.ok(found !== undefined);
    return found;
  }

  /** Boots a guest whose VMM connects to the interposer. */
  boot(
    kind: VirtualMachineOptions["platform"]["kind"],
    profile: VmmProfile = builtinVmm("qemu-7.2"),
  ): VirtualMachine {
    const machine = new VirtualMachine({ profile, socketPath: this.path("front"), platform: { kind } });
    this.#machines.add(machine);
    return machine;
  }

  off(machine: VirtualMachine): void {
    if (this.#machines.delete(machine)) machine.close();
  }

  /** Asks it to end, and returns its exit status. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<unknown> {
    this.#child?.kill(signal);
    return (await this.#exit)[0];
  }

  /** Waits for an end that it comes to by itself, and returns its exit status. */
  async end(): Promise<unknown> {
    return (await this.#exit)[0];
  }

  async close(): Promise<void> {
    for (const machine of [...this.#machines]) this.off(machine);
    this.#backEnd?.kill("SIGKILL");
    this.#child?.kill("SIGKILL");
    await this.#exit;
    await this.serve.close();
  }
}
