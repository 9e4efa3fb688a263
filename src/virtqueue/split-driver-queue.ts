/**
 * The driver side of a split virtqueue (virtio 1.4, 2.7): what a guest does. For our own guest, tests, benchmarks
 * and the conformance kit. Three ways in: `add` for convenience; `begin`, `put`, `commit` without allocation; and the
 * raw writers, which put anything anywhere for drivers that break the rules on purpose.
 *
 * The free list and chain lengths are kept outside of shared memory, so whatever the device writes, the driver
 * stays whole. Ordering is the mirror of `split-device-queue.ts`: indexes through Atomics, entries plain.
 */
import { view } from "../linux/mapping.js";
import type { QueueFailure, QueueFailureCode } from "./failure.js";
import {
  AVAIL,
  AVAIL_NO_INTERRUPT,
  availBytes,
  availRingOffset,
  DESC_BYTES,
  DescFlag,
  descBytes,
  isQueueSize,
  passesEvent,
  USED,
  USED_ELEMENT_BYTES,
  USED_NO_NOTIFY,
  usedBytes,
  usedRingOffset,
} from "./layout.js";

/** A buffer as the device is told of it: bus address (whatever the device's buffer space translates) and length. */
export interface BusBuffer {
  readonly address: bigint;
  readonly length: number;
}

export interface SplitDriverSetup {
  /** The queue's number, for messages. */
  readonly index: number;
  /** Power of 2, at most 32768. */
  readonly size: number;
  /** Host addresses of the three areas, zeroed memory, e.g. from `placeSplitQueue`. */
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  /** VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** Where indirect tables go, one for each descriptor of the ring; undefined: chains are direct. */
  readonly tables?: IndirectTables | undefined;
  /** The index that both rings start from, 0 after a reset. The driver writes it into both. */
  readonly firstIndex?: number;
}

export interface IndirectTables {
  /** Host address, a multiple of 4, of `size * entries * 16` bytes. */
  readonly host: number;
  /** The same place as the device is told of it. */
  readonly bus: bigint;
  /** How many entries each table has. */
  readonly entries: number;
}

const AVAIL_IDX = AVAIL.idx.offset >> 1;
const AVAIL_RING = availRingOffset(0) >> 1;
const USED_IDX = USED.idx.offset >> 1;
const USED_RING = usedRingOffset(0) >> 2;
const DESC_WORDS = DESC_BYTES >> 2;
const USED_ELEMENT_WORDS = USED_ELEMENT_BYTES >> 2;
const NONE = 0xffff;

export class SplitDriverQueue<Token = undefined> {
  readonly index: number;
  readonly size: number;
  /** Set once the device wrote something impossible to the used ring, for good. */
  failure: QueueFailure | undefined;
  /** `len` of the element that the latest successful `pollUsed` returned. */
  usedLength = 0;

  readonly #eventIdx: boolean;
  readonly #slotMask: number;
  readonly #desc: Uint32Array;
  readonly #avail: Uint16Array;
  readonly #used16: Uint16Array;
  readonly #used32: Uint32Array;
  readonly #usedEventAt: number;
  readonly #availEventAt: number;

  readonly #tables: IndirectTables | undefined;
  readonly #tableWords: Uint32Array;
  /** The bus address of each table, as its low and high half. */
  readonly #tableAddresses: Uint32Array;

  /** The free list, and for each descriptor the one that follows it, in its chain or in the list. */
  #freeHead = 0;
  #free: number;
  readonly #next: Uint16Array;
  /** Descriptors that a chain in flight occupies, by head; 0: not in flight. */
  readonly #occupied: Uint16Array;
  readonly #tokens: (Token | undefined)[] = [];

  #availNext = 0;
  #availPublished = 0;
  #usedNext = 0;
  #inFlight = 0;
  /** Chains published since `kickNeeded` was last asked. */
  #unkicked = 0;

  /** The chain under construction. */
  #head = NONE;
  #last = NONE;
  #count = 0;
  #usesTable = false;

  constructor(setup: SplitDriverSetup) {
    if (!isQueueSize(setup.size))
      throw new RangeError(`queue ${setup.index}: ${setup.size} is no queue size`);
    const { size } = setup;
    this.index = setup.index;
    this.size = size;
    this.#eventIdx = setup.eventIdx;
    this.#slotMask = size - 1;
    this.#desc = new Uint32Array(view(setup.desc, descBytes(size)));
    this.#avail = new Uint16Array(view(setup.avail, availBytes(size)));
    const used = view(setup.used, usedBytes(size));
    this.#used16 = new Uint16Array(used);
    this.#used32 = new Uint32Array(used, 0, usedBytes(size) >>> 2);
    this.#usedEventAt = availRingOffset(size) >> 1;
    this.#availEventAt = usedRingOffset(size) >> 1;
    this.#tables = setup.tables;
    this.#tableWords =
      setup.tables === undefined
        ? new Uint32Array(0)
        : new Uint32Array(view(setup.tables.host, size * setup.tables.entries * DESC_BYTES));
    this.#tableAddresses = new Uint32Array(setup.tables === undefined ? 0 : 2 * size);
    for (let i = 0; i < this.#tableAddresses.length; i += 2) {
      const address = this.tableAddress(i >> 1);
      this.#tableAddresses[i] = low32(address);
      this.#tableAddresses[i + 1] = high32(address);
    }
    this.#availNext = setup.firstIndex ?? 0;
    this.#availPublished = this.#availNext;
    this.#usedNext = this.#availNext;
    Atomics.store(this.#avail, AVAIL_IDX, this.#availNext);
    Atomics.store(this.#used16, USED_IDX, this.#usedNext);
    this.#free = size;
    this.#next = new Uint16Array(size);
    for (let i = 0; i < size; i++) this.#next[i] = i + 1;
    this.#occupied = new Uint16Array(size);
  }

  /** Descriptors that are free. A chain in an indirect table takes one. */
  get freeDescriptors(): number {
    return this.#free;
  }

  /** Chains added and not yet returned. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Adds a chain and returns its head, or -1 if the queue is full. `inTable` puts the descriptors into an indirect
   * table; by default if there are tables and more than one buffer. The device sees it after `publish`.
   */
  add(
    readable: readonly BusBuffer[],
    writable: readonly BusBuffer[],
    token?: Token,
    inTable = this.#tables !== undefined && readable.length + writable.length > 1,
  ): number {
    if (!this.begin(inTable)) return -1;
    for (const buffer of readable) if (!this.#putBuffer(buffer, false)) return -1;
    for (const buffer of writable) if (!this.#putBuffer(buffer, true)) return -1;
    return this.commit(token);
  }

  /** Starts a chain. False: no descriptor is free. */
  begin(inTable = false): boolean {
    if (inTable && this.#tables === undefined)
      throw new Error(`queue ${this.index}: no room for tables was given`);
    if (this.#free === 0) return false;
    this.#head = this.#freeHead;
    this.#last = NONE;
    this.#count = 0;
    this.#usesTable = inTable;
    return true;
  }

  /** Adds a buffer at `high * 2^32 + low` to the chain begun. False: no room, and the chain is given up. */
  put(low: number, high: number, length: number, writable: boolean): boolean {
    const flags = writable ? DescFlag.WRITE : 0;
    if (this.#usesTable) {
      const entries = this.#tables?.entries ?? 0;
      if (this.#count === entries) return false;
      const at = (this.#head * entries + this.#count) * DESC_WORDS;
      if (this.#count > 0) this.#tableWords[at - 1] |= DescFlag.NEXT | (this.#count << 16);
      write(this.#tableWords, at, low, high, length, flags);
    } else {
      if (this.#count === this.#free) return false;
      const index = this.#last === NONE ? this.#head : this.#next[this.#last];
      if (this.#last !== NONE) this.#desc[this.#last * DESC_WORDS + 3] |= DescFlag.NEXT | (index << 16);
      write(this.#desc, index * DESC_WORDS, low, high, length, flags);
      this.#last = index;
    }
    this.#count++;
    return true;
  }

  /** Ends the chain begun, which has at least one buffer, and returns its head. */
  commit(token?: Token): number {
    const head = this.#head;
    if (this.#count === 0) throw new Error(`queue ${this.index}: a chain without a buffer`);
    if (this.#usesTable) this.#writeTableReference(head);
    const taken = this.#usesTable ? 1 : this.#count;
    this.#freeHead = this.#next[this.#usesTable ? head : this.#last];
    this.#free -= taken;
    this.#occupied[head] = taken;
    if (token !== undefined) this.#tokens[head] = token;
    this.#inFlight++;
    this.#avail[AVAIL_RING + (this.#availNext & this.#slotMask)] = head;
    this.#availNext = (this.#availNext + 1) & 0xffff;
    return head;
  }

  /** Shows the device everything added so far. */
  publish(): void {
    const count = (this.#availNext - this.#availPublished) & 0xffff;
    if (count === 0) return;
    // Release: descriptors and ring entries first. Full fence: before the load in kickNeeded.
    Atomics.store(this.#avail, AVAIL_IDX, this.#availNext);
    this.#availPublished = this.#availNext;
    this.#unkicked += count;
  }

  /** Whether the device wants a kick for what was published since the last call. Ask after `publish`. */
  kickNeeded(): boolean {
    const count = this.#unkicked;
    if (count === 0) return false;
    this.#unkicked = 0;
    if (!this.#eventIdx) return (Atomics.load(this.#used16, 0) & USED_NO_NOTIFY) === 0;
    if (count > 0xffff) return true;
    return passesEvent(Atomics.load(this.#used16, this.#availEventAt), this.#availPublished, count);
  }

  /** Takes the next returned chain: its head, with `usedLength`, or -1 if there is none or the device broke a rule. */
  pollUsed(): number {
    if (this.failure !== undefined) return -1;
    const waiting = (Atomics.load(this.#used16, USED_IDX) - this.#usedNext) & 0xffff;
    if (waiting === 0) return -1;
    if (waiting > this.#inFlight)
      return this.#fail("index-jump", `used.idx is ${waiting} ahead, ${this.#inFlight} chains are in flight`);
    const at = USED_RING + (this.#usedNext & this.#slotMask) * USED_ELEMENT_WORDS;
    const head = this.#used32[at];
    if (head >= this.size)
      return this.#fail("head-out-of-range", `used element ${this.#usedNext} names id ${head}`);
    if (this.#occupied[head] === 0)
      return this.#fail(
        "head-not-in-flight",
        `used element ${this.#usedNext} names id ${head}, which is not in flight`,
      );
    this.usedLength = this.#used32[at + 1];
    this.#usedNext = (this.#usedNext + 1) & 0xffff;
    this.#release(head);
    return head;
  }

  /** The token given to `add` or `commit` with a head that `pollUsed` returned; the next chain there replaces it. */
  token(head: number): Token | undefined {
    return this.#tokens[head];
  }

  /** Asks the device not to notify. A hint. */
  disableNotifications(): void {
    // With EVENT_IDX avail.flags stays 0 (2.7.7.1), and a used_event that lies behind suppresses by itself.
    if (!this.#eventIdx) Atomics.store(this.#avail, 0, AVAIL_NO_INTERRUPT);
  }

  /**
   * Asks for a notification, with EVENT_IDX only once more than `after` chains have been returned. True: they have
   * been meanwhile, and no notification may come: poll again.
   */
  enableNotifications(after = 0): boolean {
    const skipped = this.#eventIdx ? after : 0;
    if (this.#eventIdx) Atomics.store(this.#avail, this.#usedEventAt, (this.#usedNext + skipped) & 0xffff);
    else Atomics.store(this.#avail, 0, 0);
    return ((Atomics.load(this.#used16, USED_IDX) - this.#usedNext) & 0xffff) > skipped;
  }

  /** Raw: writes descriptor `index` of the ring as it stands. Nothing is checked or accounted. */
  writeDescriptor(index: number, address: bigint, length: number, flags: number, next: number): void {
    writeRaw(this.#desc, index * DESC_WORDS, address, length, flags, next);
  }

  /** Raw: writes an entry of the indirect table that belongs to ring descriptor `table`. */
  writeTableEntry(
    table: number,
    entry: number,
    address: bigint,
    length: number,
    flags: number,
    next: number,
  ): void {
    const entries = this.#tables?.entries ?? 0;
    writeRaw(this.#tableWords, (table * entries + entry) * DESC_WORDS, address, length, flags, next);
  }

  /** The bus address of the indirect table that belongs to ring descriptor `table`. */
  tableAddress(table: number): bigint {
    const tables = this.#tables;
    if (tables === undefined) throw new Error(`queue ${this.index}: no room for tables was given`);
    return tables.bus + BigInt(table * tables.entries * DESC_BYTES);
  }

  /** Raw: puts any value into the next slot of the avail ring. `publish` shows it; the used ring is then not checked. */
  offer(head: number): void {
    this.#avail[AVAIL_RING + (this.#availNext & this.#slotMask)] = head;
    this.#availNext = (this.#availNext + 1) & 0xffff;
  }

  /** Raw: sets `avail.idx`. */
  writeAvailIndex(value: number): void {
    Atomics.store(this.#avail, AVAIL_IDX, value);
  }

  /** Raw: what the device wrote. */
  get usedIndex(): number {
    return Atomics.load(this.#used16, USED_IDX);
  }
  get usedFlags(): number {
    return Atomics.load(this.#used16, 0);
  }
  get availEvent(): number {
    return Atomics.load(this.#used16, this.#availEventAt);
  }

  #putBuffer(buffer: BusBuffer, writable: boolean): boolean {
    return this.put(low32(buffer.address), high32(buffer.address), buffer.length, writable);
  }

  #writeTableReference(head: number): void {
    const low = this.#tableAddresses[2 * head];
    const high = this.#tableAddresses[2 * head + 1];
    write(this.#desc, head * DESC_WORDS, low, high, this.#count * DESC_BYTES, DescFlag.INDIRECT);
  }

  #release(head: number): void {
    const taken = this.#occupied[head];
    this.#occupied[head] = 0;
    let last = head;
    for (let i = 1; i < taken; i++) last = this.#next[last];
    this.#next[last] = this.#freeHead;
    this.#freeHead = head;
    this.#free += taken;
    this.#inFlight--;
  }

  #fail(code: QueueFailureCode, text: string): number {
    this.failure = { code, message: `queue ${this.index}: ${text}` };
    return -1;
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

function writeRaw(
  words: Uint32Array,
  at: number,
  address: bigint,
  length: number,
  flags: number,
  next: number,
): void {
  write(words, at, low32(address), high32(address), length, flags | (next << 16));
}

function low32(address: bigint): number {
  return Number(address & 0xffffffffn);
}

function high32(address: bigint): number {
  return Number(address >> 32n);
}
