/**
 * One device, one virtual machine, one guest: started together, stopped together, their logs kept in
 * .vm/logs/<kind> (or below BIT33_VM_LOGS). Must not know what is checked with them (checks.ts).
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Device } from "./device.js";
import { Guest } from "./guest.js";
import { Host } from "./host.js";
import { Interposer, isInspected } from "./interposer.js";
import type { GuestKind } from "./kinds.js";
import { qemuProgram, readPrepared, vmFolder } from "./paths.js";
import { Program } from "./program.js";
import { Qmp } from "./qmp.js";

export class Lab {
  readonly kind: GuestKind;
  readonly device: Device;
  readonly guest: Guest;
  readonly host: Host;
  readonly logFolder: string;
  /** What stands between QEMU and the device, in guests that are inspected. */
  readonly interposer: Interposer | undefined;
  readonly #qemu: Program;
  readonly #folder: string;
  #qmp: Qmp | undefined;
  #lastPort = 1024;
  #stopping = false;

  private constructor(
    kind: GuestKind,
    folder: string,
    device: Device,
    /** Where the device's host sockets are. */
    readonly udsPath: string,
    logFolder: string,
    interposer: Interposer | undefined,
  ) {
    this.kind = kind;
    this.interposer = interposer;
    this.device = device;
    this.host = new Host(udsPath);
    this.logFolder = logFolder;
    this.#folder = folder;
    this.guest = new Guest((line) => this.#qemu.child.stdin.write(`${line}\n`));
    this.#qemu = new Program(
      "QEMU",
      qemuCommand(kind, folder, logFolder, vhostSocket(folder, interposer !== undefined)),
      join(logFolder, "guest.log"),
      (line) => this.guest.read(line),
    );
    this.#watch(this.#qemu, "QEMU");
    this.#watch(device.program, "the device");
    if (interposer !== undefined) this.#watch(interposer.program, "the interposer");
  }

  /** Boots the guest and waits for its program. */
  static async start(kind: GuestKind): Promise<Lab> {
    const logFolder = join(
      process.env.BIT33_VM_LOGS ?? join(vmFolder, "logs"),
      kind.name.replaceAll(/[^\w.]+/g, "-"),
    );
    rmSync(logFolder, { recursive: true, force: true });
    mkdirSync(logFolder, { recursive: true });
    // Short: a Unix socket's path holds 107 bytes.
    const folder = mkdtempSync(join(tmpdir(), "b33-"));
    // Asked for every buffer by messages, one more program on the way is one more to be woken each time.
    const patience = isInspected(kind) ? ["--connect-timeout-ms", "20000"] : [];
    const socket = vhostSocket(folder, false);
    const device = new Device(socket, join(folder, "vsock"), join(logFolder, "device.log"), patience);
    await device.ready();
    const interposer = isInspected(kind)
      ? new Interposer(
          kind,
          vhostSocket(folder, true),
          vhostSocket(folder, false),
          join(logFolder, "inspect.log"),
        )
      : undefined;
    await interposer?.ready();
    const lab = new Lab(kind, folder, device, join(folder, "vsock"), logFolder, interposer);
    try {
      await lab.alive(lab.guest.booted(1));
      lab.#qmp = await Qmp.open(join(folder, "qmp"));
    } catch (error) {
      await lab.stop();
      throw new Error(`the guest did not start: ${String(error)}\n${lab.logs()}`, { cause: error });
    }
    return lab;
  }

  get qmp(): Qmp {
    if (this.#qmp === undefined) throw new Error("the monitor is not open");
    return this.#qmp;
  }

  /** A port that no earlier check has used. */
  freshPort(): number {
    return ++this.#lastPort;
  }

  /** The promise's value, unless the device or QEMU ends before it is there. */
  alive<T>(promise: Promise<T>): Promise<T> {
    return this.#qemu.alongside(this.device.program.alongside(promise));
  }

  #watch(program: Program, name: string): void {
    void program.ended.then((how) => {
      if (!this.#stopping) this.guest.failAll(new Error(`${name} ended: ${how}`));
    });
  }

  /** Saves what the guest's kernel has to say, which only the guest can tell. */
  async saveKernelLog(): Promise<string[]> {
    try {
      return await this.guest.lines("dmesg");
    } catch (error) {
      return [`the guest does not answer: ${String(error)}`];
    }
  }

  /** Ends the programs, QEMU first as a power cut would, and says how the device ended, or the interposer if that went wrong. */
  async stop(): Promise<string> {
    this.#stopping = true;
    this.host.closeAll();
    this.#qmp?.close();
    await this.#qemu.stop();
    const problem = await this.interposer?.end(this.kind);
    const how = await this.device.program.stop();
    rmSync(this.#folder, { recursive: true, force: true });
    return problem === undefined ? how : `the interposer: ${problem}`;
  }

  /** The ends of all logs, for a failure's report. */
  logs(): string {
    const tail = (name: string): string => {
      const lines = readFileSync(join(this.logFolder, name), "utf8").trimEnd().split("\n");
      return `---- ${name}, last of ${lines.length} lines ----\n${lines.slice(-40).join("\n")}`;
    };
    const inspected = this.interposer === undefined ? [] : ["inspect.log"];
    return ["device.log", "kernel.log", "guest.log", ...inspected].map(tail).join("\n");
  }
}

/** The device's own socket, or the one in front of it. */
function vhostSocket(folder: string, isInspected: boolean): string {
  return join(folder, isInspected ? "inspected" : "vhost");
}

/** QEMU with one guest, whose vsock device is the back-end at `socket`. */
export function qemuCommand(kind: GuestKind, folder: string, logFolder: string, socket: string): string[] {
  const kernel = readPrepared().kernels[kind.kernel];
  const memoryMiB = kind.memoryMiB ?? 256;
  return [
    qemuProgram,
    // Software emulation everywhere, so that a test means the same on every machine.
    ...["-accel", "tcg", "-cpu", "max", "-smp", "1"],
    ...["-M", `q35,memory-backend=mem${kind.machine ?? ""}`, "-m", `${memoryMiB}M${kind.memorySlots ?? ""}`],
    ...["-object", `memory-backend-memfd,id=mem,size=${memoryMiB}M,share=on`],
    ...["-nodefaults", "-no-user-config", "-display", "none"],
    // The kernel's console to a file, the guest program's lines to us.
    ...["-serial", `file:${join(logFolder, "kernel.log")}`, "-serial", "stdio"],
    ...["-qmp", `unix:${join(folder, "qmp")},server=on,wait=off`],
    ...(kind.reboots ? [] : ["-no-reboot"]),
    ...(kind.devices ?? []),
    ...["-chardev", `socket,id=vsock,path=${socket}`],
    ...["-device", `vhost-user-vsock-pci,chardev=vsock${kind.vsockOptions ?? ""}`],
    ...["-kernel", join(vmFolder, kernel.vmlinux), "-initrd", join(vmFolder, kernel.initrd)],
    // no_timer_check: on a busy host the emulated timer can be too late for the kernel's test of it, which panics.
    ...["-append", `console=ttyS0 panic=-1 quiet no_timer_check ${kind.append ?? ""}`],
  ];
}
