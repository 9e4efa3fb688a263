/**
 * The driver's view of a packed virtqueue's memory: every field of it, readable and writable, nothing checked. The
 * driver queue is built on it; tests use it to break rules on purpose.
 */
import { view } from "../linux/mapping.js";
import { DESC_BYTES } from "./layout.js";
import { EVENT_SUPPRESS_BYTES, PACKED_DESC, packedDescBytes } from "./packed-layout.js";
import { high32, type IndirectTables, low32 } from "./split-driver-rings.js";

export interface PackedDriverMemory {
  /** At most 32768. */
  readonly size: number;
  /** Host addresses of the three areas, e.g. from `placePackedQueue`. */
  readonly desc: number;
  readonly driverEvent: number;
  readonly deviceEvent: number;
  /** Where indirect tables go, one for each buffer id; undefined: chains are direct. */
  readonly tables?: IndirectTables | undefined;
}

/** A packed descriptor with any content. */
export interface RawPackedDescriptor {
  readonly address: bigint;
  readonly length: number;
  readonly id?: number;
  /** See `DescFlag` and `PackedFlag`. */
  readonly flags?: number;
}

const WORDS = DESC_BYTES >> 2;
const HALVES = DESC_BYTES >> 1;
const ID = PACKED_DESC.id.offset >> 1;
const FLAGS = PACKED_DESC.flags.offset >> 1;
const LEN = PACKED_DESC.len.offset >> 2;

export class PackedDriverRings {
  readonly size: number;
  readonly tables: IndirectTables | undefined;
  readonly #desc16: Uint16Array;
  readonly #desc32: Uint32Array;
  readonly #driverEvent: Uint32Array;
  readonly #deviceEvent: Uint32Array;
  readonly #table32: Uint32Array;

  constructor({ size, desc, driverEvent, deviceEvent, tables }: PackedDriverMemory) {
    this.size = size;
    this.tables = tables;
    const ring = view(desc, packedDescBytes(size));
    this.#desc16 = new Uint16Array(ring);
    this.#desc32 = new Uint32Array(ring);
    this.#driverEvent = new Uint32Array(view(driverEvent, EVENT_SUPPRESS_BYTES));
    this.#deviceEvent = new Uint32Array(view(deviceEvent, EVENT_SUPPRESS_BYTES));
    this.#table32 =
      tables === undefined
        ? new Uint32Array(0)
        : new Uint32Array(view(tables.host, size * tables.entries * DESC_BYTES));
  }

  /** The bus address of the indirect table that belongs to buffer id `owner`. */
  tableAddress(owner: number): bigint {
    if (this.tables === undefined) throw new Error("no room for indirect tables was given");
    return this.tables.bus + BigInt(owner * this.tables.entries * DESC_BYTES);
  }

  /** Raw: the flags last, as the device looks at them first. */
  writeDescriptor(slot: number, { address, length, id = 0, flags = 0 }: RawPackedDescriptor): void {
    this.setBuffer(slot, low32(address), high32(address), length);
    this.setId(slot, id);
    this.setFlags(slot, flags);
  }

  /** Writes entry `entry` of the indirect table that belongs to buffer id `owner`. */
  writeTableEntry(owner: number, entry: number, { address, length, flags = 0 }: RawPackedDescriptor): void {
    this.setTableEntry(owner, entry, low32(address), high32(address), length, flags);
  }

  setTableEntry(
    owner: number,
    entry: number,
    low: number,
    high: number,
    length: number,
    flags: number,
  ): void {
    const at = (owner * (this.tables?.entries ?? 0) + entry) * WORDS;
    this.#table32[at] = low;
    this.#table32[at + 1] = high;
    this.#table32[at + 2] = length;
    this.#table32[at + 3] = flags << 16;
  }

  setBuffer(slot: number, low: number, high: number, length: number): void {
    const at = slot * WORDS;
    this.#desc32[at] = low;
    this.#desc32[at + 1] = high;
    this.#desc32[at + LEN] = length;
  }

  setId(slot: number, id: number): void {
    this.#desc16[slot * HALVES + ID] = id;
  }

  /** Release: what was written before is seen with it. */
  setFlags(slot: number, flags: number): void {
    Atomics.store(this.#desc16, slot * HALVES + FLAGS, flags);
  }

  /** Acquire: what the device wrote before is seen after it. */
  flags(slot: number): number {
    return Atomics.load(this.#desc16, slot * HALVES + FLAGS);
  }

  id(slot: number): number {
    return this.#desc16[slot * HALVES + ID];
  }

  length(slot: number): number {
    return this.#desc32[slot * WORDS + LEN];
  }

  /** What the driver wants to hear of: position and wrap counter in bits 0-15, `EventFlag` from bit 16 on. */
  get driverEvent(): number {
    return Atomics.load(this.#driverEvent, 0);
  }
  set driverEvent(value: number) {
    Atomics.store(this.#driverEvent, 0, value);
  }

  /** What the device wants to hear of, likewise. */
  get deviceEvent(): number {
    return Atomics.load(this.#deviceEvent, 0);
  }
  set deviceEvent(value: number) {
    Atomics.store(this.#deviceEvent, 0, value);
  }
}
