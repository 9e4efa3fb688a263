/**
 * The driver side of a packed virtqueue (virtio 1.4, 2.8): what a guest does. For our own guest, tests and benchmarks.
 * `add` for convenience, `begin`, `put`, `commit` without allocation, and `rings` for drivers that break the rules.
 *
 * Ids, chain lengths and flags are kept outside of shared memory, so whatever the device writes, the driver stays
 * whole. A chain's flags are written when it is committed, those of the first chain since the latest `publish` by
 * `publish`: the device looks in order, so it sees nothing before.
 */
import type { DriverQueue } from "./driver-queue.js";
import type { QueueFailure, QueueFailureCode } from "./failure.js";
import { InOrderBatch } from "./in-order-batch.js";
import { DESC_BYTES, DescFlag } from "./layout.js";
import { type PackedDriverMemory, PackedDriverRings } from "./packed-driver-rings.js";
import {
  advance,
  availableFlags,
  EventFlag,
  FIRST_POSITION,
  indexOf,
  isPackedQueueSize,
  isUsed,
  passesPackedEvent,
  usedFlags,
  WRAP_BIT,
} from "./packed-layout.js";
import type { BusBuffer } from "./split-driver-queue.js";
import { high32, low32 } from "./split-driver-rings.js";

export interface PackedDriverSetup extends PackedDriverMemory {
  /** The queue's number, for messages. */
  readonly index: number;
  /** VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** VIRTIO_F_IN_ORDER was negotiated: one used descriptor may stand for a batch. */
  readonly inOrder?: boolean;
  /** Where both sides begin: index 0 of the first lap after a reset (see `advance`). */
  readonly firstPosition?: number;
}

export class PackedDriverQueue<Token = undefined> implements DriverQueue {
  readonly index: number;
  readonly size: number;
  /** The memory beneath, unchecked. */
  readonly rings: PackedDriverRings;
  failure: QueueFailure | undefined;
  usedLength = 0;

  readonly #eventIdx: boolean;
  readonly #tableEntries: number;
  readonly #batch: InOrderBatch | undefined;

  /** Ids that are free, as a list. */
  #freeId = 0;
  readonly #nextId: Uint16Array;
  #free: number;
  /** Descriptors of the ring that a chain in flight occupies, by id; 0: not in flight. */
  readonly #slots: Uint16Array;
  readonly #tokens: (Token | undefined)[] = [];

  #availNext: number;
  #usedNext: number;
  #inFlight = 0;
  /** How far the device was shown descriptors. */
  #shown: number;
  /** The first chain that the device may not see yet: its first descriptor and the flags that show it; -1: none. */
  #heldSlot = -1;
  #heldFlags = 0;
  /** Descriptors committed since `publish`, and published since `kickNeeded` was last asked. */
  #unpublished = 0;
  #unkicked = 0;

  /** The chain under construction: its flags, descriptor by descriptor, and how many the device may write. */
  readonly #flags: Uint16Array;
  #count = 0;
  #inTable = false;
  #writableBytes = 0;

  constructor(setup: PackedDriverSetup) {
    const { index, size } = setup;
    if (!isPackedQueueSize(size)) throw new RangeError(`queue ${index}: ${size} is no queue size`);
    this.index = index;
    this.size = size;
    this.rings = new PackedDriverRings(setup);
    this.#eventIdx = setup.eventIdx;
    this.#tableEntries = setup.tables?.entries ?? 0;
    this.#batch = setup.inOrder === true ? new InOrderBatch(size) : undefined;
    this.#nextId = new Uint16Array(size);
    for (let i = 0; i < size; i++) this.#nextId[i] = i + 1;
    this.#free = size;
    this.#slots = new Uint16Array(size);
    this.#flags = new Uint16Array(size);
    this.#availNext = setup.firstPosition ?? FIRST_POSITION;
    this.#usedNext = this.#availNext;
    this.#shown = this.#availNext;
    this.#leaveAsUsed();
  }

  /** Whoever begins elsewhere than at the first descriptor finds all of them used, each on its latest lap. */
  #leaveAsUsed(): void {
    const first = indexOf(this.#availNext);
    for (let slot = 0; slot < this.size; slot++)
      this.rings.setFlags(slot, usedFlags(this.#availNext ^ (slot < first ? 0 : WRAP_BIT)));
  }

  get freeDescriptors(): number {
    return this.#free;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** The next descriptor to make available, and the next to be used: index, and wrap counter in bit 15. */
  get position(): { readonly avail: number; readonly used: number } {
    return { avail: this.#availNext, used: this.#usedNext };
  }

  /**
   * Adds a chain and returns its head, or -1 if the queue is full. `inTable` puts the descriptors into an indirect
   * table; by default if there are tables and more than one buffer. The device sees it after `publish`.
   */
  add(
    readable: readonly BusBuffer[],
    writable: readonly BusBuffer[],
    token?: Token,
    inTable = this.#tableEntries > 0 && readable.length + writable.length > 1,
  ): number {
    if (!this.begin(inTable)) return -1;
    for (const buffer of readable) if (!this.#putBuffer(buffer, false)) return -1;
    for (const buffer of writable) if (!this.#putBuffer(buffer, true)) return -1;
    return this.commit(token);
  }

  begin(inTable = false): boolean {
    if (inTable && this.#tableEntries === 0)
      throw new Error(`queue ${this.index}: no room for indirect tables was given`);
    if (this.#free === 0) return false;
    this.#count = 0;
    this.#inTable = inTable;
    this.#writableBytes = 0;
    return true;
  }

  put(low: number, high: number, length: number, writable: boolean): boolean {
    if (writable) this.#writableBytes += length;
    const flags = writable ? DescFlag.WRITE : 0;
    if (!this.#inTable) return this.#putSlot(low, high, length, flags);
    if (this.#count === this.#tableEntries) return false;
    this.rings.setTableEntry(this.#freeId, this.#count++, low, high, length, flags);
    return true;
  }

  putTable(low: number, high: number, entryBytes: number, writableBytes: number): boolean {
    this.#writableBytes += writableBytes;
    return this.#putSlot(low, high, entryBytes, DescFlag.INDIRECT);
  }

  /** The descriptor shows no flags of this lap yet, so what is written is nobody's before `commit`. */
  #putSlot(low: number, high: number, length: number, flags: number): boolean {
    const count = this.#count;
    if (count === this.#free) return false;
    const position = advance(this.#availNext, count, this.size);
    this.rings.setBuffer(indexOf(position), low, high, length);
    if (count > 0) this.#flags[count - 1] |= DescFlag.NEXT;
    this.#flags[count] = flags | availableFlags(position);
    this.#count++;
    return true;
  }

  commit(token?: Token): number {
    if (this.#count === 0) throw new Error(`queue ${this.index}: a chain without a buffer`);
    const { rings, size } = this;
    const id = this.#freeId;
    if (this.#inTable) {
      const { tables } = rings;
      const entryBytes = this.#count * DESC_BYTES;
      const table = (tables?.bus ?? 0n) + BigInt(id * this.#tableEntries * DESC_BYTES);
      this.#count = 0;
      this.#putSlot(low32(table), high32(table), entryBytes, DescFlag.INDIRECT);
    }
    const taken = this.#count;
    // From the last one back, so that whoever sees the first one's flags sees the others'.
    for (let i = taken - 1; i > 0; i--) {
      const slot = indexOf(advance(this.#availNext, i, size));
      rings.setId(slot, id);
      rings.setFlags(slot, this.#flags[i]);
    }
    const first = indexOf(this.#availNext);
    rings.setId(first, id);
    if (this.#heldSlot < 0) {
      this.#heldSlot = first;
      this.#heldFlags = this.#flags[0];
    } else {
      rings.setFlags(first, this.#flags[0]);
    }
    this.#availNext = advance(this.#availNext, taken, size);
    this.#freeId = this.#nextId[id];
    this.#free -= taken;
    this.#slots[id] = taken;
    this.#inFlight++;
    this.#unpublished += taken;
    this.#count = 0;
    // Without tokens the array stays empty; with them a chain without one must not inherit its predecessor's.
    if (token !== undefined || this.#tokens.length > 0) this.#tokens[id] = token;
    this.#batch?.added(id, this.#writableBytes);
    return id;
  }

  publish(): void {
    if (this.#heldSlot < 0) return;
    // Release: everything before these flags. Full fence: before the load in kickNeeded.
    this.rings.setFlags(this.#heldSlot, this.#heldFlags);
    this.#heldSlot = -1;
    this.#shown = this.#availNext;
    this.#unkicked += this.#unpublished;
    this.#unpublished = 0;
  }

  kickNeeded(): boolean {
    const count = this.#unkicked;
    if (count === 0) return false;
    this.#unkicked = 0;
    const event = this.rings.deviceEvent;
    const flags = event >>> 16;
    if (flags !== EventFlag.DESC || !this.#eventIdx) return flags !== EventFlag.DISABLE;
    return count >= this.size || passesPackedEvent(event & 0xffff, this.#shown, count, this.size);
  }

  pollUsed(): number {
    if (this.failure !== undefined) return -1;
    const batch = this.#batch;
    if (batch?.isOpen === true) return this.#takeOfBatch(batch);
    if (this.#inFlight === 0) return -1;
    const slot = indexOf(this.#usedNext);
    const flags = this.rings.flags(slot);
    if (!isUsed(flags, this.#usedNext)) return -1;
    const id = this.rings.id(slot);
    const length = (flags & DescFlag.WRITE) !== 0 ? this.rings.length(slot) : 0;
    if (id >= this.size)
      return this.#fail("head-out-of-range", `used descriptor ${slot} has buffer id ${id}`);
    if (this.#slots[id] === 0)
      return this.#fail(
        "head-not-in-flight",
        `used descriptor ${slot} has buffer id ${id}, which is not in flight`,
      );
    if (batch !== undefined) {
      batch.open(id, length);
      return this.#takeOfBatch(batch);
    }
    this.usedLength = length;
    this.#release(id);
    return id;
  }

  /** With IN_ORDER a used descriptor returns all chains up to its id. */
  #takeOfBatch(batch: InOrderBatch): number {
    const id = batch.take();
    this.usedLength = batch.length;
    this.#release(id);
    return id;
  }

  /** The token given to `add` or `commit` with a head that `pollUsed` returned; the next chain there replaces it. */
  token(id: number): Token | undefined {
    return this.#tokens[id];
  }

  disableNotifications(): void {
    this.rings.driverEvent = EventFlag.DISABLE << 16;
  }

  enableNotifications(): boolean {
    this.rings.driverEvent = this.#eventIdx
      ? (EventFlag.DESC << 16) | this.#usedNext
      : EventFlag.ENABLE << 16;
    if (this.failure !== undefined) return false;
    if (this.#batch?.isOpen === true) return true;
    return this.#inFlight > 0 && isUsed(this.rings.flags(indexOf(this.#usedNext)), this.#usedNext);
  }

  #putBuffer(buffer: BusBuffer, writable: boolean): boolean {
    return this.put(low32(buffer.address), high32(buffer.address), buffer.length, writable);
  }

  #release(id: number): void {
    const taken = this.#slots[id];
    this.#slots[id] = 0;
    this.#nextId[id] = this.#freeId;
    this.#freeId = id;
    this.#free += taken;
    this.#inFlight--;
    this.#usedNext = advance(this.#usedNext, taken, this.size);
  }

  #fail(code: QueueFailureCode, text: string): number {
    this.failure = { code, message: `queue ${this.index}: ${text}` };
    return -1;
  }
}
