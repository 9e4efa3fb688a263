/**
 * One VM of a soak: a built-in guest on a front-end of its own, booted again and again at the same device, and the two
 * ways to get a connection between it and a host program.
 */
import { rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { type GuestConnection, GuestSocketError } from "../src/guest/connection.js";
import { createPlatform, type Platform, type PlatformOptions } from "../src/guest/platform.js";
import { builtinVmm } from "../src/profiles/builtin.js";
import { VirtualMachine } from "../src/vmm/virtual-machine.js";
import { type End, EndGone, GuestEnd, HostEnd, NotInTime } from "./soak-ends.js";

export const HOST_PORT = 5000;
const GUEST_PORT = 6000;
/** Nobody listens there, on either side. */
export const DEAD_PORT = 6666;
const ID_BYTES = 4;
/** It passes on every invalidation; QEMU 7.2 keeps to itself those that a lazy guest puts off, which corrupts data. */
const VMM = "qemu-10.0";

export interface Pair {
  readonly guest: End;
  readonly host: End;
}

export interface SoakVmOptions {
  readonly socketPath: string;
  readonly udsPath: string;
  /** What the guest can be; which one it is changes with each new machine. */
  readonly machines: readonly PlatformOptions[];
}

export class SoakVm {
  /** How often it was booted. Who sees it change has lost the connections of before. */
  generation = 0;
  /** Rejects with EndGone once the machine that runs now is shut down. */
  departure: Promise<never> = new Promise(() => {});
  #depart: () => void = () => {};
  readonly #options: SoakVmOptions;
  readonly #server: Server;
  /** Ends that wait for their other half, by the number that both know. */
  readonly #fromGuest = new Meeting<HostEnd>();
  readonly #fromHost = new Meeting<GuestConnection>();
  #machine: VirtualMachine | undefined;
  #platform: Platform | undefined;
  #machinesMade = 0;
  #ids = 0;

  constructor(options: SoakVmOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: false }, (socket) => {
      void this.#hostAccepted(new HostEnd(socket));
    });
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) =>
      this.#server.listen({ path: `${this.#options.udsPath}_${HOST_PORT}`, backlog: 1024 }, resolve),
    );
    this.boot(true);
  }

  /** Boots, on a new machine with memory of its own, or on the one that was there. */
  boot(onNewMachine: boolean): void {
    const { machines, socketPath } = this.#options;
    if (onNewMachine || this.#platform === undefined) {
      this.#platform?.ram.close();
      this.#platform = createPlatform(machines[this.#machinesMade++ % machines.length]);
    }
    const machine = new VirtualMachine(
      {
        socketPath,
        profile: builtinVmm(VMM),
        platform: { kind: this.#platform.kind },
        queueSize: 256,
      },
      this.#platform,
    );
    this.#machine = machine;
    this.generation++;
    this.departure = new Promise((_, reject) => {
      this.#depart = () => reject(new EndGone("the machine was shut down"));
    });
    this.departure.catch(() => {});
    void this.#accept(machine, this.generation);
  }

  /** Stops the device as a VMM does, or vanishes with rings running. */
  shutDown(isOrderly: boolean): void {
    const machine = this.#machine;
    this.#machine = undefined;
    this.generation++;
    if (isOrderly) machine?.close();
    else machine?.kill();
    this.#depart();
  }

  close(): void {
    this.shutDown(true);
    this.#platform?.ram.close();
    this.#server.close();
    rmSync(`${this.#options.udsPath}_${HOST_PORT}`, { force: true });
  }

  get isOn(): boolean {
    return this.#machine !== undefined;
  }

  // ---- connections ---------------------------------------------------------------------------------------------

  async openFromGuest(): Promise<Pair> {
    const guest = new GuestEnd(await this.guestConnects(HOST_PORT));
    const id = this.#ids++ >>> 0;
    const bytes = Buffer.alloc(ID_BYTES);
    bytes.writeUInt32LE(id);
    await guest.write(bytes);
    return { guest, host: await this.#fromGuest.meet(id) };
  }

  async openFromHost(): Promise<Pair> {
    const host = await this.hostConnects(`CONNECT ${GUEST_PORT}\n`);
    const answer = await host.read();
    const port = /^OK (\d+)\n$/.exec(Buffer.from(answer ?? []).toString("latin1"))?.[1];
    if (port === undefined) {
      host.cut();
      throw new EndGone(
        `the device answered ${JSON.stringify(Buffer.from(answer ?? []).toString("latin1"))}`,
      );
    }
    return { guest: new GuestEnd(await this.#fromHost.meet(Number(port))), host };
  }

  /** Rejects with EndGone if there is no machine, or nobody listens on the port. */
  async guestConnects(port: number): Promise<GuestConnection> {
    if (this.#machine === undefined) throw new EndGone("the machine is off");
    try {
      return await this.#machine.driver.connect(port);
    } catch (cause) {
      const text = `guest: ${(cause as Error).message}`;
      if (cause instanceof GuestSocketError && cause.code === "ETIMEDOUT")
        throw new NotInTime(text, { cause });
      throw new EndGone(text, { cause });
    }
  }

  /** Connects to the device's socket and sends the text. */
  async hostConnects(text: string): Promise<HostEnd> {
    const socket = createConnection({ path: this.#options.udsPath, allowHalfOpen: true });
    await connected(socket);
    const host = new HostEnd(socket);
    await host.write(Buffer.from(text, "latin1"));
    return host;
  }

  async #hostAccepted(host: HostEnd): Promise<void> {
    const id = await host.take(ID_BYTES);
    if (id === null || id.length < ID_BYTES) host.cut();
    else this.#fromGuest.bring(id.readUInt32LE(), host);
  }

  async #accept(machine: VirtualMachine, generation: number): Promise<void> {
    const listener = machine.driver.listen(GUEST_PORT, 1024);
    while (this.generation === generation) {
      const connection = await listener.accept();
      this.#fromHost.bring(connection.peerPort, connection);
    }
  }

  /** What was left behind by scenes that were cut off. */
  forgetHalves(): void {
    for (const host of this.#fromGuest.leftover()) host.cut();
    for (const connection of this.#fromHost.leftover()) connection.reset();
  }
}

function connected(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve();
    });
    socket.once("error", reject);
  });
}

/** Where two halves of one connection find each other, whichever comes first. */
class Meeting<T> {
  readonly #brought = new Map<number, T>();
  readonly #waiting = new Map<number, (found: T) => void>();

  bring(id: number, found: T): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (waiting === undefined) this.#brought.set(id, found);
    else waiting(found);
  }

  meet(id: number): Promise<T> {
    const found = this.#brought.get(id);
    this.#brought.delete(id);
    if (found !== undefined) return Promise.resolve(found);
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }

  /** Those that nobody has come for. */
  leftover(): T[] {
    const left = [...this.#brought.values()];
    this.#brought.clear();
    this.#waiting.clear();
    return left;
  }
}
