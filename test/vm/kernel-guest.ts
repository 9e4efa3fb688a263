/**
 * A guest whose only program drives the guest's own /dev/vhost-vsock (guest/vhost-probe.c): boots it, and has scripts
 * run there by the real kernel. Must not know what a script is about.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type KernelScript, memoryOf, stepLine, transcriptLine } from "./kernel-script.js";
import { type KernelSeries, qemuProgram, readPrepared, vmFolder } from "./paths.js";
import { Program } from "./program.js";
import { within } from "./waiting.js";

export class KernelGuest {
  readonly #qemu: Program;
  readonly #waiting: ((line: string) => void)[] = [];
  release = "";

  private constructor(series: KernelSeries) {
    const folder = join(process.env.BIT33_VM_LOGS ?? join(vmFolder, "logs"), `vhost-${series}`);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    this.#qemu = new Program("QEMU", command(series, folder), join(folder, "guest.log"), (line) =>
      this.#waiting.shift()?.(line.trim()),
    );
  }

  /** Boots it and waits for its program. */
  static async start(series: KernelSeries): Promise<KernelGuest> {
    const guest = new KernelGuest(series);
    try {
      const [word, release] = (await guest.#nextLine("the guest's start")).split(" ");
      if (word !== "READY" || release === undefined) throw new Error(`instead of READY came ${word}`);
      guest.release = release;
    } catch (error) {
      await guest.stop();
      throw error;
    }
    return guest;
  }

  /** Runs the script with fresh memory and fresh devices; returns each step with its result. */
  async run(script: KernelScript): Promise<string[]> {
    const { steps } = script;
    const memory = memoryOf(script).map(({ address, bytes }) => `memory ${address} ${bytes}`);
    const before = ["close 0", "close 1", ...memory];
    const answers = await this.#ask([...before, ...steps.map(stepLine)]);
    const problem = answers.findIndex((answer, index) => index < before.length && answer !== "ok");
    if (problem >= 0) throw new Error(`in the guest, ${before[problem]}: ${answers[problem]}`);
    return steps.map((step, index) => transcriptLine(step, answers[before.length + index]));
  }

  async stop(): Promise<void> {
    await this.#qemu.stop();
  }

  /** All at once: a round trip for each would take most of the time. The guest's terminal buffers 64 KiB. */
  #ask(lines: readonly string[]): Promise<string[]> {
    const answers = lines.map((line) => this.#nextLine(line));
    this.#qemu.child.stdin.write(lines.map((line) => `${line}\n`).join(""));
    return Promise.all(answers);
  }

  #nextLine(what: string): Promise<string> {
    const next = new Promise<string>((resolve) => this.#waiting.push(resolve));
    return within(this.#qemu.alongside(next), `in the guest, ${what}`);
  }
}

function command(series: KernelSeries, logFolder: string): string[] {
  const kernel = readPrepared().kernels[series];
  return [
    qemuProgram,
    ...["-accel", "tcg", "-cpu", "max", "-smp", "1", "-M", "q35", "-m", "256M"],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-serial", `file:${join(logFolder, "kernel.log")}`, "-serial", "stdio"],
    ...["-kernel", join(vmFolder, kernel.vmlinux), "-initrd", join(vmFolder, kernel.initrd)],
    ...["-append", "console=ttyS0 panic=-1 quiet no_timer_check rdinit=/vhost-probe"],
  ];
}
