/**
 * For tests of this folder: a back-end session and a front-end in one thread, over a real socket pair; a VM's memory
 * in a memfd; a device that returns every chain and remembers what it held; and QEMU's order of messages.
 */

import { closeSync, readdirSync } from "node:fs";
import { EPOLLIN } from "../linux/epoll.js";
import { EventLoop } from "../linux/event-loop.js";
import { createEventfd, drainEventfd, signalEventfd } from "../linux/eventfd.js";
import { createMemfd, mapShared, view } from "../linux/mapping.js";
import type { Timers } from "../linux/timers.js";
import { socketPair } from "../linux/unix-socket.js";
import { createLogger } from "../log/logger.js";
import type { LogRecord } from "../log/record.js";
import { Outcome } from "../memory/address.js";
import type { AccessWatcher } from "../memory/watched-space.js";
import { F, maskOf, PROTOCOL_F } from "../virtio/index.js";
import { Chain } from "../virtqueue/chain.js";
import { Pop } from "../virtqueue/device-queue.js";
import { placeSplitQueue } from "../virtqueue/layout.js";
import { SplitDriverQueue } from "../virtqueue/split-driver-queue.js";
import type { BackendDevice, BackendQueue, SessionPolicy } from "./backend-device.js";
import { BackendSession } from "./backend-session.js";
import { FrontEndSession, type SharedRegion } from "./front-end-session.js";
import type { RingAddresses } from "./ring-state.js";
import type { IotlbMessage } from "./wire/index.js";

export const MEMORY_BYTES = 0x200000;
/** Where the front-end says that it has the memory; nowhere near where it really is. */
export const USER_BASE = 0x7f29_effff000n;
/** Where the guest has it. */
export const GPA_BASE = 0x1_0000_0000n;
/** What a guest behind a vIOMMU calls it: below 4 GiB, from the top, as Linux hands them out. */
export const IOVA_BASE = 0xffc0_0000n;
export const QUEUE_SIZE = 8;

/** How a guest's driver says where something is. */
export type Dma = "user-rings" | "iova" | "guest-rings";

const DEFAULT_POLICY: SessionPolicy = {
  iotlb: "auto",
  explicitBit: 62,
  accessPlatform: true,
  probationMs: 20,
  queueSizeMax: 1024,
  missTimeoutMs: 50,
};

export const VERSION_1_AND_30 = maskOf(F.VERSION_1, F.PROTOCOL_FEATURES, F.EVENT_IDX, F.INDIRECT_DESC);
export const WITH_BIT_33 = VERSION_1_AND_30 | maskOf(F.ACCESS_PLATFORM);
/** What QEMU up to 11 acknowledges of what is offered: bits 0 to 19. */
const QEMU_PROTOCOL_MASK = (1n << 20n) - 1n;

/** Returns every chain at once and keeps what it said. Runs its rings like a real device: never when told not to. */
export class EchoDevice implements BackendDevice {
  readonly queueCount = 3;
  readonly features = maskOf(F.VERSION_1, F.EVENT_IDX, F.INDIRECT_DESC, F.RING_PACKED, F.RING_RESET);
  readonly running = new Map<number, BackendQueue>();
  /** What happened, in order: "start 0", "stop 0", "data 1 hello", "memory", "reset", "end". */
  readonly events: string[] = [];
  /** Leaves chains alone, as a device without buffers to fill does. */
  idle = false;
  endReason: string | undefined;
  readonly #tokens = new Map<number, number>();
  readonly #chain = new Chain();

  constructor(readonly loop: EventLoop) {}

  readConfig(offset: number, size: number): Uint8Array | undefined {
    const config = new Uint8Array([3, 0, 0, 0, 0, 0, 0, 0]);
    return offset + size > config.length ? undefined : config.subarray(offset, offset + size);
  }

  queueStarted(queue: BackendQueue): void {
    if (this.running.has(queue.index)) throw new Error(`queue ${queue.index} runs already`);
    this.events.push(`start ${queue.index}`);
    this.running.set(queue.index, queue);
    if (queue.kickFd >= 0) {
      const onEvents = (): void => {
        drainEventfd(queue.kickFd);
        this.process(queue);
      };
      this.#tokens.set(queue.index, this.loop.watch(queue.kickFd, EPOLLIN, { onEvents }));
    }
    this.process(queue);
  }

  queueStopped(index: number): void {
    const queue = this.running.get(index);
    const token = this.#tokens.get(index);
    if (queue === undefined) throw new Error(`queue ${index} was not running`);
    this.events.push(`stop ${index}`);
    this.running.delete(index);
    this.#tokens.delete(index);
    if (token !== undefined) this.loop.unwatch(queue.kickFd, token);
  }

  memoryAvailable(): void {
    this.events.push("memory");
    this.processAll();
  }

  processAll(): void {
    for (const queue of [...this.running.values()]) this.process(queue);
  }

  reset(): void {
    this.events.push("reset");
  }

  sessionEnded(reason: string): void {
    if (this.endReason !== undefined) throw new Error("the session ended twice");
    this.endReason = reason;
    this.events.push("end");
  }

  process(backend: BackendQueue): void {
    const { queue, views } = backend;
    const prepared = queue.prepare();
    if (prepared === Outcome.MISS || this.idle) return;
    for (;;) {
      const popped = prepared === Outcome.FAULT ? Pop.BROKEN : queue.pop(this.#chain);
      if (popped === Pop.BROKEN && queue.failure !== undefined) {
        backend.fail(queue.failure);
        return;
      }
      if (popped === Pop.EMPTY && queue.enableKicks()) continue;
      if (popped !== Pop.CHAIN) break;
      this.events.push(`data ${backend.index} ${this.#text(views)}`);
      queue.push(this.#chain.head, 0);
    }
    queue.publish();
    backend.notify();
  }

  #text(views: BackendQueue["views"]): string {
    let text = "";
    const { address, length, count } = this.#chain.readable;
    for (let segment = 0; segment < count; segment++) {
      for (let byte = 0; byte < length[segment]; byte++) {
        views.locate(address[segment] + byte);
        text += String.fromCharCode(views.data.getUint8(views.offset));
      }
    }
    return text;
  }
}

/** A VM's memory, and a driver's queues in it. */
export class GuestRam {
  readonly fd = createMemfd("session-rig", MEMORY_BYTES);
  readonly host = mapShared(this.fd, 0, MEMORY_BYTES);
  readonly bytes = new Uint8Array(view(this.host, MEMORY_BYTES));
  readonly region: SharedRegion = {
    guestAddress: GPA_BASE,
    userAddress: USER_BASE,
    size: BigInt(MEMORY_BYTES),
    mmapOffset: 0n,
    fd: this.fd,
  };
  #nextBuffer = 0x100000;

  /** Where queue `index` has its areas, as offsets into the memory. Each area is on a page of its own. */
  offsetOf(index: number): number {
    return 0x10000 * (index + 1);
  }

  base(dma: Dma): bigint {
    return { "user-rings": USER_BASE, iova: IOVA_BASE, "guest-rings": GPA_BASE }[dma];
  }

  addresses(index: number, dma: Dma): RingAddresses {
    const placed = placeSplitQueue(QUEUE_SIZE, 4096);
    const start = this.base(dma) + BigInt(this.offsetOf(index));
    const at = (offset: number): bigint => start + BigInt(offset);
    return { desc: at(placed.desc), avail: at(placed.avail), used: at(placed.used) };
  }

  driver(index: number, firstIndex = 0): SplitDriverQueue<string> {
    const placed = placeSplitQueue(QUEUE_SIZE, 4096);
    const start = this.host + this.offsetOf(index);
    const areas = { desc: start + placed.desc, avail: start + placed.avail, used: start + placed.used };
    return new SplitDriverQueue<string>({ index, size: QUEUE_SIZE, eventIdx: true, firstIndex, ...areas });
  }

  /** Writes `text` into a page of its own and returns its offset. */
  write(text: string): number {
    const offset = this.#nextBuffer;
    this.#nextBuffer += 4096;
    if (this.#nextBuffer >= MEMORY_BYTES) this.#nextBuffer = 0x100000;
    this.bytes.set(new TextEncoder().encode(text), offset);
    return offset;
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** What a test brings of its own. */
export interface RigParts {
  readonly watcher?: AccessWatcher;
  /** Stays the test's. */
  readonly ram?: GuestRam;
  readonly timers?: Timers;
}

export class Rig {
  readonly loop: EventLoop;
  readonly device: EchoDevice;
  readonly logged: LogRecord[] = [];
  readonly ram: GuestRam;
  readonly #ownsRam: boolean;
  readonly session: BackendSession;
  readonly fe: FrontEndSession;
  readonly misses: IotlbMessage[] = [];
  /** What the front-end answers questions about IOVA_BASE.. with: everything, or nothing. */
  mapsOnMiss = true;
  readonly kicks = [createEventfd(), createEventfd(), createEventfd()];
  readonly calls = [createEventfd(), createEventfd(), createEventfd()];
  readonly errors = [createEventfd(), createEventfd(), createEventfd()];
  readonly drivers: SplitDriverQueue<string>[] = [];

  constructor(policy: Partial<SessionPolicy> = {}, { watcher, ram, timers }: RigParts = {}) {
    this.ram = ram ?? new GuestRam();
    this.#ownsRam = ram === undefined;
    this.loop = new EventLoop(undefined, timers);
    this.device = new EchoDevice(this.loop);
    const [ours, theirs] = socketPair();
    const log = createLogger({ level: "debug", sink: (record) => void this.logged.push(record) });
    const { loop, device } = this;
    this.session = new BackendSession({
      fd: ours,
      loop,
      device,
      policy: { ...DEFAULT_POLICY, ...policy },
      log,
      ...(watcher === undefined ? {} : { watcher }),
    });
    this.fe = new FrontEndSession(theirs, {
      pump: () => this.turn(),
      onMiss: (miss) => {
        this.misses.push(miss);
        return this.mapsOnMiss && this.map(miss.iova) === 0n;
      },
    });
  }

  turn(): void {
    this.loop.turn(0);
  }

  /** Turns the loop until nothing that was sent is left unhandled. */
  settle(): void {
    for (let turns = 0; turns < 8; turns++) {
      this.turn();
      if (this.session.isOpen) this.fe.serve();
    }
  }

  /** Maps the page of `iova` as QEMU does: 4 KiB, both permissions. */
  map(iova: bigint): bigint {
    const page = iova & ~0xfffn;
    return this.fe.iotlbUpdate(page, 0x1000n, USER_BASE + (page - IOVA_BASE));
  }

  /** QEMU 7.2, from the connection to the guest's driver. */
  connect(options: { protocolFeatures?: bigint; channel?: boolean } = {}): void {
    const { fe } = this;
    fe.getFeatures();
    const offered = fe.getProtocolFeatures();
    fe.setProtocolFeatures(options.protocolFeatures ?? offered & QEMU_PROTOCOL_MASK);
    fe.getQueueNum();
    fe.getMaxMemSlots();
    fe.needReply = (fe.protocolFeatures & maskOf(PROTOCOL_F.REPLY_ACK)) !== 0n;
    if (options.channel !== false) fe.openBackendChannel();
    fe.needReply = false;
    fe.setOwner();
    fe.getFeatures();
    for (const index of [0, 1]) {
      fe.setVringCall(index, this.calls[index]);
      fe.setVringErr(index, this.errors[index]);
    }
    fe.getConfig(0, 8);
  }

  /** QEMU 7.2, when the guest's driver is ready. `indexes` are the queues that the front-end does not keep. */
  start(
    features: bigint,
    dma: Dma,
    options: { base?: number; memory?: boolean; enable?: boolean; indexes?: readonly number[] } = {},
  ): void {
    const { fe, ram } = this;
    const indexes = options.indexes ?? [0, 1];
    for (const index of indexes) fe.setVringCall(index, this.calls[index]);
    fe.setFeatures(features);
    if (fe.getStatus() === 0) fe.setStatus(8);
    if (options.memory !== false) fe.addMemReg(ram.region);
    for (const index of indexes) {
      const base = options.base ?? 0;
      if (base === 0) this.drivers[index] = ram.driver(index);
      fe.setVringNum(index, QUEUE_SIZE);
      fe.setVringBase(index, base);
      fe.setVringAddr(index, ram.addresses(index, dma));
      fe.setVringKick(index, this.kicks[index]);
    }
    if (options.enable !== false) for (const index of indexes) fe.setVringEnable(index, true);
    this.settle();
  }

  /** QEMU's stop: disable, then ask for the positions. */
  stop(indexes: readonly number[] = [0, 1]): number[] {
    for (const index of indexes) this.fe.setVringEnable(index, false);
    return indexes.map((index) => this.fe.getVringBase(index));
  }

  /** The driver makes a buffer with `text` available and kicks. */
  send(index: number, text: string, dma: Dma = "user-rings"): void {
    const space = dma === "iova" ? IOVA_BASE : GPA_BASE;
    const buffer = { address: space + BigInt(this.ram.write(text)), length: text.length };
    this.drivers[index].add([buffer], [], text);
    this.drivers[index].publish();
    signalEventfd(this.kicks[index]);
    this.settle();
  }

  /** What the device got out of queue `index`. */
  received(index: number): string[] {
    const prefix = `data ${index} `;
    return this.device.events
      .filter((event) => event.startsWith(prefix))
      .map((event) => event.slice(prefix.length));
  }

  log(event: string): LogRecord[] {
    return this.logged.filter((record) => record.event === event);
  }

  /** The modes that were logged, with their reasons: "off bit-33-absent". */
  modes(): string[] {
    return this.log("translation-mode").map(({ fields }) => `${fields?.mode} ${fields?.reason}`);
  }

  close(): void {
    this.session.end("the test is over");
    this.fe.close();
    if (this.#ownsRam) this.ram.close();
    for (const fd of [...this.kicks, ...this.calls, ...this.errors]) closeSync(fd);
    this.loop.close();
  }
}

/** Runs `body` with a rig, closes it, and checks that not one descriptor is left open or closed twice. */
export function withRig(
  policy: Partial<SessionPolicy>,
  body: (rig: Rig) => void,
  parts: RigParts = {},
): void {
  const before = openDescriptors();
  const rig = new Rig(policy, parts);
  try {
    body(rig);
  } finally {
    rig.close();
  }
  const after = openDescriptors();
  if (before !== after) throw new Error(`descriptors open before: ${before}, after: ${after}`);
}

export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}
