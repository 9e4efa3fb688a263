/**
 * For tests of the whole device: real devices in their threads, built-in guests and host programs in this one, real
 * sockets and memory between them. Everything that a test opens is closed behind it.
 */

import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type VmConfig, vmConfig } from "../../src/device/config/vm-config.js";
import { type RunningDevice, startDevice } from "../../src/device/device.js";
import type { GuestConnection } from "../../src/guest/connection.js";
import type { Platform } from "../../src/guest/platform.js";
import { createLogger } from "../../src/log/logger.js";
import type { LogRecord } from "../../src/log/record.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { VirtualMachine, type VirtualMachineOptions } from "../../src/vmm/virtual-machine.js";

export const FIRST_CID = 3;

/** A net for what hangs, many times what any suite takes; no test depends on it. */
export const SUITE_TIMEOUT_MS = 300_000;

export type BootOptions = Partial<Omit<VirtualMachineOptions, "platform" | "socketPath">> & {
  readonly kind?: VirtualMachineOptions["platform"]["kind"];
  readonly platform?: Partial<VirtualMachineOptions["platform"]>;
  /** Which of the rig's VMs; 0 by default. */
  readonly vm?: number;
};

export class Rig {
  /** Everything that the devices logged. */
  readonly records: LogRecord[] = [];
  readonly configs: readonly VmConfig[];
  readonly #folder = mkdtempSync(join(tmpdir(), "bit33-test-"));
  readonly #machines = new Set<VirtualMachine>();
  readonly #servers = new Set<Server>();
  readonly #sockets = new Set<Socket>();
  #device: RunningDevice | undefined;

  private constructor(vms: readonly Partial<VmConfig>[]) {
    this.configs = vms.map((given, index) =>
      vmConfig({
        guestCid: FIRST_CID + index,
        socketPath: join(this.#folder, `vm${index}.sock`),
        udsPath: join(this.#folder, `vm${index}.vsock`),
        ...given,
      }),
    );
  }

  /** Starts a device for each configuration; one with the defaults if none is given. */
  static async start(...vms: Partial<VmConfig>[]): Promise<Rig> {
    const rig = new Rig(vms.length === 0 ? [{}] : vms);
    const log = createLogger({ level: "debug", sink: (record) => rig.records.push(record) });
    rig.#device = await startDevice(rig.configs, { log });
    return rig;
  }

  /** Boots a guest; by default a plain one under QEMU. */
  boot(options: BootOptions = {}, platform?: Platform): VirtualMachine {
    const { kind = "direct", vm = 0, platform: platformOptions, ...rest } = options;
    const machine = new VirtualMachine(
      {
        profile: builtinVmm("qemu-7.2"),
        ...rest,
        socketPath: String(this.configs[vm].socketPath),
        platform: { kind, ...platformOptions },
      },
      platform,
    );
    this.#machines.add(machine);
    return machine;
  }

  /** Switches a guest off, or kills its VMM. */
  off(machine: VirtualMachine, how: "close" | "kill" = "close"): void {
    if (this.#machines.delete(machine)) machine[how]();
  }

  udsPath(vm = 0): string {
    return this.configs[vm].udsPath;
  }

  /** A host program that listens for the guest. */
  async listen(port: number, vm = 0): Promise<HostListener> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    this.#servers.add(server);
    const listener = new HostListener(server, (socket) => this.#keep(socket));
    server.listen(`${this.udsPath(vm)}_${port}`);
    await once(server, "listening");
    return listener;
  }

  /** A host program's connection to the hybrid socket, before it has said anything. */
  async open(vm = 0): Promise<Socket> {
    const socket = this.#keep(createConnection({ path: this.udsPath(vm), allowHalfOpen: true }));
    await once(socket, "connect");
    return socket;
  }

  /** A host program's connection to a guest port, after its OK. */
  async connect(port: number, vm = 0): Promise<Socket> {
    const socket = await this.open(vm);
    socket.write(`CONNECT ${port}\n`);
    assert.match(await readLine(socket), /^OK \d+\n$/);
    return socket;
  }

  #keep(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => this.#sockets.delete(socket));
    return socket;
  }

  events(event: LogRecord["event"], vm = 0): LogRecord[] {
    return this.records.filter((record) => record.event === event && record.vm === this.configs[vm].guestCid);
  }

  /** Waits until something is so; a test that hangs says what it waited for. */
  async until(condition: () => boolean, what: string): Promise<void> {
    const deadlineMs = performance.now() + 20_000;
    while (!condition()) {
      assert.ok(performance.now() < deadlineMs, `waited in vain: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
    for (const machine of [...this.#machines]) this.off(machine);
    await this.#device?.close();
    rmSync(this.#folder, { recursive: true, force: true });
    const failed = this.records.filter(({ event }) => event === "internal-error");
    assert.deepEqual(failed, []);
  }
}

export class HostListener {
  readonly #waiting: Socket[] = [];
  readonly #accepts: ((socket: Socket) => void)[] = [];

  constructor(
    readonly server: Server,
    keep: (socket: Socket) => Socket,
  ) {
    server.on("connection", (socket) => {
      keep(socket);
      const accept = this.#accepts.shift();
      if (accept === undefined) this.#waiting.push(socket);
      else accept(socket);
    });
  }

  /** The next connection; nothing of it has been read. */
  accept(): Promise<Socket> {
    const socket = this.#waiting.shift();
    if (socket !== undefined) return Promise.resolve(socket);
    return new Promise((resolve) => this.#accepts.push(resolve));
  }

  close(): void {
    this.server.close();
  }
}

/** Reads up to and with the first newline, and no byte more. */
export async function readLine(socket: Socket): Promise<string> {
  let line = "";
  while (!line.endsWith("\n")) line += (await readExactly(socket, 1)).toString("latin1");
  return line;
}

/** Reads so many bytes; fewer only if the stream ends. */
export function readExactly(socket: Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let missing = bytes;
  return new Promise((resolve, reject) => {
    const take = () => {
      while (missing > 0) {
        const chunk: Buffer | null = socket.read(Math.min(missing, socket.readableLength));
        if (chunk === null || chunk.length === 0) break;
        chunks.push(chunk);
        missing -= chunk.length;
      }
      if (missing === 0 || socket.readableEnded) finish();
    };
    const finish = () => {
      socket.off("readable", take);
      socket.off("end", finish);
      socket.off("error", failed);
      resolve(Buffer.concat(chunks));
    };
    const failed = (error: Error) => {
      socket.off("readable", take);
      socket.off("end", finish);
      reject(error);
    };
    socket.on("readable", take);
    socket.on("end", finish);
    socket.on("error", failed);
    take();
  });
}

/** Reads until the other side has ended. */
export async function readToEnd(socket: Socket): Promise<Buffer> {
  return readExactly(socket, Number.POSITIVE_INFINITY);
}

export function noise(bytes: number): Buffer {
  return randomFillSync(Buffer.alloc(bytes));
}

/** Equality that does not print megabytes. */
export function assertSame(actual: Uint8Array, expected: Uint8Array, what: string): void {
  assert.equal(actual.length, expected.length, `${what}: length`);
  if (Buffer.compare(actual, expected) === 0) return;
  const at = actual.findIndex((byte, index) => byte !== expected[index]);
  assert.fail(`${what}: differs from byte ${at} on`);
}

/** Sends `toHost` and `toGuest` at the same time over a guest's and a host's end, ends both, and compares. */
export async function exchange(
  guest: GuestConnection,
  host: Socket,
  toHost: Uint8Array,
  toGuest: Uint8Array,
): Promise<void> {
  const guestSends = guest.write(toHost).then(() => guest.shutdown(2));
  host.end(toGuest);
  const [atHost, atGuest] = await Promise.all([readToEnd(host), guest.readToEnd(), guestSends]);
  assertSame(atHost, toHost, "what arrived at the host");
  assertSame(atGuest, toGuest, "what arrived at the guest");
}

/** A connection from the guest that moves data both ways: whether a VM works. */
export async function assertWorks(rig: Rig, machine: VirtualMachine, vm = 0, bytes = 20_000): Promise<void> {
  const port = 20_000 + Math.floor(Math.random() * 10_000);
  const listener = await rig.listen(port, vm);
  try {
    const guest = await machine.driver.connect(port);
    const host = await listener.accept();
    await exchange(guest, host, noise(bytes), noise(bytes));
    await guest.close();
  } finally {
    listener.close();
  }
}
