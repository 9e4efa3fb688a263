/**
 * The driver's view of a split virtqueue's memory: every field of it, readable and writable, nothing checked. The
 * driver queue is built on it; tests and the conformance kit use it to break rules on purpose.
 */
import { view } from "../linux/mapping.js";
import {
  AVAIL,
  availBytes,
  availRingOffset,
  DESC_BYTES,
  DescFlag,
  descBytes,
  USED,
  USED_ELEMENT_BYTES,
  usedBytes,
  usedRingOffset,
} from "./layout.js";

export interface SplitDriverMemory {
  /** Power of 2, at most 32768. */
  readonly size: number;
  /** Host addresses of the three areas, e.g. from `placeSplitQueue`. */
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  /** Where indirect tables go, one for each descriptor of the ring; undefined: chains are direct. */
  readonly tables?: IndirectTables | undefined;
}

export interface IndirectTables {
  /** Host address, a multiple of 4, of `size * entries * 16` bytes. */
  readonly host: number;
  /** The same place as the device is told of it. */
  readonly bus: bigint;
  /** How many entries each table has. */
  readonly entries: number;
}

/** A descriptor with any content. */
export interface RawDescriptor {
  readonly address: bigint;
  readonly length: number;
  /** See `DescFlag`. */
  readonly flags?: number;
  readonly next?: number;
}

const AVAIL_FLAGS = AVAIL.flags.offset >> 1;
const AVAIL_IDX = AVAIL.idx.offset >> 1;
const AVAIL_RING = availRingOffset(0) >> 1;
const USED_FLAGS = USED.flags.offset >> 1;
const USED_IDX = USED.idx.offset >> 1;
const USED_RING = usedRingOffset(0) >> 2;
const DESC_WORDS = DESC_BYTES >> 2;
const USED_ELEMENT_WORDS = USED_ELEMENT_BYTES >> 2;

export class SplitDriverRings {
  readonly size: number;
  readonly tables: IndirectTables | undefined;
  readonly #desc: Uint32Array;
  readonly #avail: Uint16Array;
  readonly #used16: Uint16Array;
  readonly #used32: Uint32Array;
  readonly #tableWords: Uint32Array;
  readonly #tableEntries: number;
  /** The bus address of each table, as its low and high half. */
  readonly #tableAddresses: Uint32Array;

  constructor(memory: SplitDriverMemory) {
    const { size, tables } = memory;
    this.size = size;
    this.tables = tables;
    this.#desc = new Uint32Array(view(memory.desc, descBytes(size)));
    this.#avail = new Uint16Array(view(memory.avail, availBytes(size)));
    const used = view(memory.used, usedBytes(size));
    this.#used16 = new Uint16Array(used);
    this.#used32 = new Uint32Array(used, 0, usedBytes(size) >>> 2);
    this.#tableEntries = tables?.entries ?? 0;
    this.#tableWords =
      tables === undefined
        ? new Uint32Array(0)
        : new Uint32Array(view(tables.host, size * tables.entries * DESC_BYTES));
    this.#tableAddresses = new Uint32Array(tables === undefined ? 0 : 2 * size);
    for (let i = 0; i < this.#tableAddresses.length; i += 2) {
      const address = this.tableAddress(i >> 1);
      this.#tableAddresses[i] = low32(address);
      this.#tableAddresses[i + 1] = high32(address);
    }
  }

  /** The bus address of the indirect table that belongs to ring descriptor `owner`. */
  tableAddress(owner: number): bigint {
    if (this.tables === undefined) throw new Error("no room for indirect tables was given");
    return this.tables.bus + BigInt(owner * this.#tableEntries * DESC_BYTES);
  }

  writeDescriptor(index: number, raw: RawDescriptor): void {
    writeRaw(this.#desc, index * DESC_WORDS, raw);
  }

  /** Writes entry `entry` of the indirect table that belongs to ring descriptor `owner`. */
  writeTableEntry(owner: number, entry: number, raw: RawDescriptor): void {
    writeRaw(this.#tableWords, (owner * this.#tableEntries + entry) * DESC_WORDS, raw);
  }

  /** Without allocation: a descriptor that ends its chain, until `link` leads on from it. */
  setDescriptor(index: number, low: number, high: number, length: number, flags: number): void {
    write(this.#desc, index * DESC_WORDS, low, high, length, flags);
  }

  link(index: number, next: number): void {
    this.#desc[index * DESC_WORDS + 3] |= DescFlag.NEXT | (next << 16);
  }

  /** Likewise for table entries, the successor of each being the next one. */
  setTableEntry(
    owner: number,
    entry: number,
    low: number,
    high: number,
    length: number,
    flags: number,
  ): void {
    write(this.#tableWords, (owner * this.#tableEntries + entry) * DESC_WORDS, low, high, length, flags);
  }

  linkTableEntry(owner: number, entry: number): void {
    const at = (owner * this.#tableEntries + entry) * DESC_WORDS + 3;
    this.#tableWords[at] |= DescFlag.NEXT | ((entry + 1) << 16);
  }

  /** Makes descriptor `owner` refer to its table of `entries` entries. */
  setTableReference(owner: number, entries: number): void {
    const low = this.#tableAddresses[2 * owner];
    const high = this.#tableAddresses[2 * owner + 1];
    write(this.#desc, owner * DESC_WORDS, low, high, entries * DESC_BYTES, DescFlag.INDIRECT);
  }

  /** Writes `avail.ring[slot]`, plainly: `availIndex` publishes it. */
  setAvailSlot(slot: number, head: number): void {
    this.#avail[AVAIL_RING + slot] = head;
  }

  usedId(slot: number): number {
    return this.#used32[USED_RING + slot * USED_ELEMENT_WORDS];
  }

  usedLength(slot: number): number {
    return this.#used32[USED_RING + slot * USED_ELEMENT_WORDS + 1];
  }

  get availIndex(): number {
    return Atomics.load(this.#avail, AVAIL_IDX);
  }
  set availIndex(value: number) {
    Atomics.store(this.#avail, AVAIL_IDX, value);
  }

  get availFlags(): number {
    return Atomics.load(this.#avail, AVAIL_FLAGS);
  }
  set availFlags(value: number) {
    Atomics.store(this.#avail, AVAIL_FLAGS, value);
  }

  /** At which used index the driver wants to be notified. */
  get usedEvent(): number {
    return Atomics.load(this.#avail, AVAIL_RING + this.size);
  }
  set usedEvent(value: number) {
    Atomics.store(this.#avail, AVAIL_RING + this.size, value);
  }

  get usedIndex(): number {
    return Atomics.load(this.#used16, USED_IDX);
  }
  set usedIndex(value: number) {
    Atomics.store(this.#used16, USED_IDX, value);
  }

  get usedFlags(): number {
    return Atomics.load(this.#used16, USED_FLAGS);
  }

  /** At which avail index the device wants to be kicked. */
  get availEvent(): number {
    return Atomics.load(this.#used16, usedRingOffset(this.size) >> 1);
  }
}

function write(
  words: Uint32Array,
  at: number,
  low: number,
  high: number,
  length: number,
  flags: number,
): void {
  words[at] = low;
  words[at + 1] = high;
  words[at + 2] = length;
  words[at + 3] = flags;
}

function writeRaw(words: Uint32Array, at: number, raw: RawDescriptor): void {
  const flagsAndNext = (raw.flags ?? 0) | ((raw.next ?? 0) << 16);
  write(words, at, low32(raw.address), high32(raw.address), raw.length, flagsAndNext);
}

export function low32(address: bigint): number {
  return Number(address & 0xffffffffn);
}

export function high32(address: bigint): number {
  return Number((address >> 32n) & 0xffffffffn);
}
