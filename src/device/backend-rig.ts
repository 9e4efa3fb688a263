/**
 * For tests of this folder: the vsock backend over a real switch, with queues that are plain lists of chains and a
 * view of memory that ends at every page, as views of guest memory end with their region. Not part of the product.
 */
import { closeSync } from "node:fs";
import { EventLoop } from "../linux/event-loop.js";
import { createEventfd, signalEventfd } from "../linux/eventfd.js";
import { createMemfd } from "../linux/mapping.js";
import { Scratch } from "../linux/scratch.js";
import { Timers } from "../linux/timers.js";
import { createLogger, silentLogger } from "../log/logger.js";
import { Outcome } from "../memory/address.js";
import type { SegmentList } from "../memory/segments.js";
import type { BackendQueue } from "../vhost/backend-device.js";
import type { Chain } from "../virtqueue/chain.js";
import { type DeviceQueue, type HostReader, Pop } from "../virtqueue/device-queue.js";
import type { QueueFailure } from "../virtqueue/failure.js";
import { HEADER_BYTES, HOST_CID, Op, PacketHeader, SocketType } from "../vsock/header.js";
import { DEFAULT_LIMITS } from "../vsock/limits.js";
import { VsockSwitch } from "../vsock/switch.js";
import { brief, type Fields, GUEST_CID, GUEST_PORT, HOST_PORT, PairEndpoints } from "../vsock/switch-rig.js";
import { VsockBackend } from "./vsock-backend.js";

export const WINDOW_BYTES = 4096;

/** Host address and length of each segment. */
export type Pieces = readonly (readonly [address: number, length: number])[];

interface ListedChain {
  readonly readable: Pieces;
  readonly writable: Pieces;
}

/** Guest memory whose every page is a window of its own. */
export class PagedMemory implements HostReader {
  readonly scratch = new Scratch(2 ** 20);
  data: DataView = new DataView(new ArrayBuffer(0));
  offset = 0;

  locate(host: number): void {
    const at = host - this.scratch.address;
    const { buffer, byteOffset } = this.scratch.bytes;
    const start = Math.floor(at / WINDOW_BYTES) * WINDOW_BYTES;
    this.data = new DataView(buffer, byteOffset + start, WINDOW_BYTES);
    this.offset = at - start;
  }
}

export class ListQueue implements DeviceQueue {
  readonly size = 1024;
  readonly chains: ListedChain[] = [];
  readonly used: { readonly head: number; readonly writtenBytes: number }[] = [];
  failure: QueueFailure | undefined;
  published = 0;
  kicksEnabled = true;
  /** What `prepare` says; `pop` says MISS from this chain on. */
  outcome: Outcome = Outcome.OK;
  missFrom = Number.POSITIVE_INFINITY;
  nextAvail: number;
  /** So many chains, the first ones, had been taken by a back-end before. */
  replays = 0;
  replayed = false;
  readonly #base: number;

  constructor(
    readonly index: number,
    base = 0,
  ) {
    this.nextAvail = base;
    this.#base = base;
  }

  prepare(): Outcome {
    return this.outcome;
  }

  pop(chain: Chain): Pop {
    const at = this.nextAvail - this.#base;
    if (at >= this.chains.length) return Pop.EMPTY;
    if (at >= this.missFrom) return Pop.MISS;
    const { readable, writable } = this.chains[at];
    this.replayed = at < this.replays;
    chain.head = this.nextAvail++;
    fill(chain.readable, readable);
    fill(chain.writable, writable);
    return Pop.CHAIN;
  }

  unpop(count: number): void {
    this.nextAvail -= count;
  }

  push(head: number, writtenBytes: number): void {
    this.used.push({ head, writtenBytes });
  }

  publish(): void {
    this.published = this.used.length;
  }

  needsNotification(): boolean {
    return true;
  }

  disableKicks(): void {
    this.kicksEnabled = false;
  }

  enableKicks(): boolean {
    this.kicksEnabled = true;
    return false;
  }

  available(): number {
    return this.chains.length - (this.nextAvail - this.#base);
  }
}

/** Appended as the real lists are, so that neighbours become one segment. */
function fill(list: SegmentList, pieces: Pieces): void {
  list.clear();
  for (const [address, length] of pieces) list.append(address, length);
}

export class ListBackendQueue implements BackendQueue {
  notifications = 0;
  driverFeatures = 0n;
  readonly dirtyLog = undefined;
  broken: QueueFailure | undefined;

  constructor(
    readonly queue: ListQueue,
    readonly views: HostReader,
    readonly kickFd: number,
    private readonly stopped: (index: number) => void,
  ) {}

  get index(): number {
    return this.queue.index;
  }

  notify(): boolean {
    this.notifications++;
    return true;
  }

  fail(failure: QueueFailure): void {
    this.broken = failure;
    this.stopped(this.index);
  }
}

export class BackendRig {
  readonly clock = { ms: 0 };
  readonly loop = new EventLoop(undefined, new Timers(() => this.clock.ms));
  readonly endpoints = new PairEndpoints();
  readonly memory = new PagedMemory();
  readonly vsock = new VsockSwitch({
    loop: this.loop,
    guestCid: GUEST_CID,
    limits: DEFAULT_LIMITS,
    endpoints: this.endpoints,
    log: silentLogger,
  });
  readonly ends: string[] = [];
  /** Ids of what the backend logged. */
  readonly events: string[] = [];
  readonly backend = new VsockBackend(
    this.loop,
    this.vsock,
    GUEST_CID,
    createLogger({ level: "debug", sink: ({ event }) => this.events.push(event) }),
    () => this.ends.push("ended"),
  );
  readonly #kicks: number[] = [];
  #at = 0;

  /** Starts a queue at `base`, with a kick descriptor unless it is to be polled; a file's cannot be watched. */
  start(index: number, base = 0, kicks: "watched" | "polled" | "unwatchable" = "watched"): ListBackendQueue {
    const kickFd =
      kicks === "polled" ? -1 : kicks === "watched" ? createEventfd() : createMemfd("not an eventfd", 8);
    if (kickFd >= 0) this.#kicks.push(kickFd);
    const queue = new ListBackendQueue(new ListQueue(index, base), this.memory, kickFd, (stopped) =>
      this.backend.queueStopped(stopped),
    );
    this.backend.queueStarted(queue);
    return queue;
  }

  /** Some memory of the guest, at `offset` within a page. */
  place(bytes: number, offset = 0): number {
    const start = Math.ceil(this.#at / WINDOW_BYTES) * WINDOW_BYTES + offset;
    this.#at = start + bytes;
    if (this.#at > this.memory.scratch.length) throw new RangeError("the test's memory is used up");
    return this.memory.scratch.address + start;
  }

  /** Makes a packet available on the transmit queue, in pieces of `cuts` bytes and the rest. */
  send(
    tx: ListBackendQueue,
    fields: Fields,
    options: { address?: number; cuts?: number[]; bytes?: number } = {},
  ) {
    const bytes = options.bytes ?? HEADER_BYTES;
    const address = options.address ?? this.place(bytes);
    const header = Object.assign(new PacketHeader(), {
      srcCid: GUEST_CID,
      dstCid: HOST_CID,
      srcPort: GUEST_PORT,
      dstPort: HOST_PORT,
      type: SocketType.STREAM,
      bufAlloc: 262_144,
      ...fields,
    });
    header.write(this.memory.scratch.data, address - this.memory.scratch.address);
    const pieces: [number, number][] = [];
    let at = address;
    for (const cut of options.cuts ?? []) {
      pieces.push([at, cut]);
      at += cut;
    }
    pieces.push([at, address + bytes - at]);
    tx.queue.chains.push({ readable: pieces, writable: [] });
  }

  /** Offers a receive buffer; several pieces need not be neighbours. */
  offer(rx: ListBackendQueue, pieces: Pieces = [[this.place(3776), 3776]]): void {
    rx.queue.chains.push({ readable: [], writable: pieces });
  }

  kick(queue: ListBackendQueue): void {
    signalEventfd(queue.kickFd);
    this.turn();
  }

  turn(times = 4): void {
    for (let index = 0; index < times; index++) this.loop.turn(0);
  }

  /** What the guest finds in its used receive buffers, in brief. */
  heard(rx: ListBackendQueue): string[] {
    const { queue } = rx;
    return queue.used.slice(0, queue.published).map(({ head }) => {
      const gathered = queue.chains[head].writable.flatMap(([address, length]) => {
        const start = address - this.memory.scratch.address;
        return [...this.memory.scratch.bytes.subarray(start, start + length)];
      });
      const header = new PacketHeader();
      header.read(new DataView(Uint8Array.from(gathered).buffer), 0);
      return brief({ header, payload: Buffer.alloc(0) });
    });
  }

  /** The request of a connection, packets of which the test then sends. */
  connect(tx: ListBackendQueue): void {
    this.send(tx, { op: Op.REQUEST });
    this.kick(tx);
  }

  close(): void {
    if (this.ends.length === 0) this.backend.sessionEnded("the test is over");
    this.vsock.close();
    this.loop.close();
    for (const host of this.endpoints.accepted) host.close();
    for (const fd of this.#kicks) closeSync(fd);
  }
}
