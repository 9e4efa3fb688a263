/**
 * For tests of this folder: a block of memory that a driver sees in order and a device through a fake address space,
 * page by page, in any order, with pages that are missing or forbidden on demand; and a queue with both its ends.
 */
import { closeSync } from "node:fs";
import { libcCalls } from "../linux/libc.js";
import { createMemfd, mapShared, PAGE_BYTES, view } from "../linux/mapping.js";
import { reserveRange } from "../linux/testing.js";
import { Access, Outcome } from "../memory/address.js";
import type { AddressSpace, TranslationFault } from "../memory/address-space.js";
import type { SegmentList } from "../memory/segments.js";
import type { HostReader, SplitQueueSetup } from "./device-queue.js";
import { placeSplitQueue } from "./layout.js";
import { SplitDeviceQueue } from "./split-device-queue.js";
import { SplitDriverQueue } from "./split-driver-queue.js";
import type { IndirectTables } from "./split-driver-rings.js";

const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_FIXED = 0x10;

/** High in the 64-bit space, where Linux hands out I/O virtual addresses, and not at a multiple of 2^32. */
export const BUS_BASE = 0xffff_fffe_ff00_0000n;

/** Translates `BUS_BASE + n` to byte `n` of the memory as the driver sees it, wherever that lies in the device's. */
export class FakeSpace implements AddressSpace, HostReader {
  kind: AddressSpace["kind"] = "iova";
  generation = 1;
  mostPagesPerChain = Number.POSITIVE_INFINITY;
  fault: TranslationFault | undefined;
  /** Pages, by index, that are not mapped yet, and those of them that were asked for. */
  readonly missing = new Set<number>();
  readonly noted = new Set<number>();
  /** Pages that may only be read. */
  readonly readOnly = new Set<number>();
  chainsBegun = 0;
  data: DataView = new DataView(new ArrayBuffer(0));
  offset = 0;
  readonly #whole: DataView;

  constructor(
    readonly deviceHost: number,
    readonly order: readonly number[],
    /** `data` never reaches beyond a multiple of this, to try windows that end. */
    readonly windowBytes = order.length * PAGE_BYTES,
  ) {
    this.#whole = new DataView(view(deviceHost, order.length * PAGE_BYTES));
  }

  beginChain(): void {
    this.chainsBegun++;
  }

  translate(low: number, high: number, length: number, access: Access, out: SegmentList): Outcome {
    const start = Number(((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)) - BUS_BASE);
    if (start < 0 || start + length > this.order.length * PAGE_BYTES)
      return this.#fail("outside-memory", `byte ${start} of the fake memory`);
    let outcome: Outcome = Outcome.OK;
    for (let at = start; at < start + length; ) {
      const page = Math.floor(at / PAGE_BYTES);
      const end = Math.min(start + length, (page + 1) * PAGE_BYTES);
      if (this.missing.has(page)) {
        this.noted.add(page);
        outcome = Outcome.MISS;
      } else if (access !== Access.READ && this.readOnly.has(page)) {
        return this.#fail("not-permitted", `page ${page} of the fake memory is read-only`);
      } else {
        out.append(this.hostOf(at), end - at);
      }
      at = end;
    }
    return outcome;
  }

  /** Where the device finds byte `offset` of the memory. */
  hostOf(offset: number): number {
    return this.deviceHost + this.order[Math.floor(offset / PAGE_BYTES)] * PAGE_BYTES + (offset % PAGE_BYTES);
  }

  locate(host: number): void {
    const at = host - this.deviceHost;
    const windowStart = at - (at % this.windowBytes);
    const windowEnd = Math.min(windowStart + this.windowBytes, this.#whole.byteLength);
    this.offset = at - windowStart;
    if (this.windowBytes === this.#whole.byteLength) this.data = this.#whole;
    else this.data = new DataView(this.#whole.buffer, windowStart, windowEnd - windowStart);
  }

  #fail(code: TranslationFault["code"], message: string): Outcome {
    this.fault = { code, message };
    return Outcome.FAULT;
  }
}

/** Memory of `order.length` pages: `driverHost` has them in order, the device's page `order[i]` is the driver's `i`. */
export function makeMemory(order: readonly number[]): { driverHost: number; deviceHost: number } {
  const bytes = order.length * PAGE_BYTES;
  const fd = createMemfd("virtqueue-test", bytes);
  const deviceHost = mapShared(fd, 0, bytes);
  const driverHost = reserveRange(bytes);
  for (let i = 0; i < order.length; i++)
    libcCalls.mmap(
      driverHost + i * PAGE_BYTES,
      PAGE_BYTES,
      PROT_READ_WRITE,
      MAP_SHARED | MAP_FIXED,
      fd,
      order[i] * PAGE_BYTES,
    );
  closeSync(fd);
  return { driverHost, deviceHost };
}

export interface RigOptions {
  readonly size?: number;
  readonly eventIdx?: boolean;
  /** VIRTIO_F_INDIRECT_DESC; the driver has tables either way. */
  readonly indirect?: boolean;
  /** VIRTIO_F_IN_ORDER. */
  readonly inOrder?: boolean;
  readonly firstIndex?: number;
  readonly tableEntries?: number;
  /** The order of the pages; by default as the driver sees them. Called with how many there are. */
  readonly order?: (pages: number) => number[];
  /** Moves all areas by so many bytes from the start of a page. */
  readonly shift?: number;
  readonly windowBytes?: number;
}

export interface Rig {
  readonly space: FakeSpace;
  readonly driver: SplitDriverQueue<number>;
  readonly device: SplitDeviceQueue;
  readonly deviceSetup: SplitQueueSetup;
  /** The memory as the driver sees it. */
  readonly bytes: Uint8Array;
  /** Where the driver sees byte `offset` of it. */
  readonly hostOf: (offset: number) => number;
  /** Offsets of the areas, the tables and of the free room for buffers within the memory. */
  readonly at: {
    readonly desc: number;
    readonly avail: number;
    readonly used: number;
    readonly tables: number;
    readonly buffers: number;
  };
}

export const BUFFER_ROOM_BYTES = 16 * PAGE_BYTES;

/** A driver and a device on one queue. */
export function makeRig(options: RigOptions = {}): Rig {
  const size = options.size ?? 8;
  const entries = options.tableEntries ?? 4;
  const shift = options.shift ?? 0;
  const placement = placeSplitQueue(size);
  const tables = Math.ceil((shift + placement.totalBytes) / 16) * 16;
  const buffers = Math.ceil((tables + size * entries * 16) / PAGE_BYTES) * PAGE_BYTES;
  const pages = (buffers + BUFFER_ROOM_BYTES) / PAGE_BYTES;
  const order = options.order?.(pages) ?? inOrder(pages);
  const { driverHost, deviceHost } = makeMemory(order);
  const space = new FakeSpace(deviceHost, order, options.windowBytes);
  const at = {
    desc: shift + placement.desc,
    avail: shift + placement.avail,
    used: shift + placement.used,
    tables,
    buffers,
  };
  const firstIndex = options.firstIndex ?? 0;
  const eventIdx = options.eventIdx ?? false;
  const driver = new SplitDriverQueue<number>({
    index: 1,
    size,
    desc: driverHost + at.desc,
    avail: driverHost + at.avail,
    used: driverHost + at.used,
    eventIdx,
    inOrder: options.inOrder ?? false,
    tables: { host: driverHost + tables, bus: BUS_BASE + BigInt(tables), entries } satisfies IndirectTables,
    firstIndex,
  });
  const deviceSetup: SplitQueueSetup = {
    index: 1,
    size,
    ringSpace: space,
    bufferSpace: space,
    hostReader: space,
    desc: BUS_BASE + BigInt(at.desc),
    avail: BUS_BASE + BigInt(at.avail),
    used: BUS_BASE + BigInt(at.used),
    base: firstIndex,
    eventIdx,
    indirect: options.indirect ?? true,
  };
  const device = new SplitDeviceQueue(deviceSetup);
  const bytes = new Uint8Array(view(driverHost, order.length * PAGE_BYTES));
  return { space, driver, device, deviceSetup, bytes, hostOf: (offset) => driverHost + offset, at };
}

export function inOrder(pages: number): number[] {
  return Array.from({ length: pages }, (_, i) => i);
}

/** An order in which no two neighbours stay neighbours. */
export function scattered(pages: number): number[] {
  const half = Math.ceil(pages / 2);
  return Array.from({ length: pages }, (_, i) => (i % 2 === 0 ? i / 2 : half + (i - 1) / 2));
}

/** The bus address of byte `offset` of the room for buffers. */
export function busOf(rig: Rig, offset: number): bigint {
  return BUS_BASE + BigInt(rig.at.buffers + offset);
}
