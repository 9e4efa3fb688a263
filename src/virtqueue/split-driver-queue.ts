/**
 * The driver side of a split virtqueue (virtio 1.4, 2.7): what a guest does. For our own guest, tests, benchmarks
 * and the conformance kit. Three ways in: `add` for convenience; `begin`, `put`, `commit` without allocation; and
 * `rings` with `offer`, which put anything anywhere for drivers that break the rules on purpose.
 *
 * The free list and chain lengths are kept outside of shared memory, so whatever the device writes, the driver
 * stays whole. Ordering is the mirror of `split-device-queue.ts`: indexes through Atomics, entries plain.
 */
import type { DriverQueue } from "./driver-queue.js";
import type { QueueFailure, QueueFailureCode } from "./failure.js";
import { InOrderBatch } from "./in-order-batch.js";
import { AVAIL_NO_INTERRUPT, DescFlag, isQueueSize, passesEvent, USED_NO_NOTIFY } from "./layout.js";
import { high32, low32, type SplitDriverMemory, SplitDriverRings } from "./split-driver-rings.js";

/** A buffer as the device is told of it: bus address (whatever the device's buffer space translates) and length. */
export interface BusBuffer {
  readonly address: bigint;
  readonly length: number;
}

export interface SplitDriverSetup extends SplitDriverMemory {
  /** The queue's number, for messages. */
  readonly index: number;
  /** VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** VIRTIO_F_IN_ORDER was negotiated: one used element may stand for a batch, descriptors are taken in order. */
  readonly inOrder?: boolean;
  /** The index that both rings start from, 0 after a reset. The driver writes it into both. */
  readonly firstIndex?: number;
}

const NONE = -1;

export class SplitDriverQueue<Token = undefined> implements DriverQueue {
  readonly index: number;
  readonly size: number;
  /** The memory beneath, unchecked. */
  readonly rings: SplitDriverRings;
  /** Set once the device wrote something impossible to the used ring, for good. */
  failure: QueueFailure | undefined;
  /** `len` of the element that the latest successful `pollUsed` returned. */
  usedLength = 0;

  readonly #eventIdx: boolean;
  readonly #slotMask: number;
  readonly #tableEntries: number;
  readonly #batch: InOrderBatch | undefined;

  /** The free list, and for each descriptor the one that follows it, in its chain or in the list. */
  #freeHead = 0;
  #freeTail: number;
  #free: number;
  readonly #next: Uint16Array;
  /** Descriptors that a chain in flight occupies, by head; 0: not in flight. */
  readonly #occupied: Uint16Array;
  readonly #tokens: (Token | undefined)[] = [];

  #availNext: number;
  #availPublished: number;
  #usedNext: number;
  #inFlight = 0;
  /** Chains published since `kickNeeded` was last asked. */
  #unkicked = 0;

  /** The chain under construction. */
  #head = NONE;
  #last = NONE;
  #count = 0;
  #inTable = false;
  #writableBytes = 0;

  constructor(setup: SplitDriverSetup) {
    if (!isQueueSize(setup.size))
      throw new RangeError(`queue ${setup.index}: ${setup.size} is no queue size`);
    const { size } = setup;
    this.index = setup.index;
    this.size = size;
    this.rings = new SplitDriverRings(setup);
    this.#eventIdx = setup.eventIdx;
    this.#slotMask = size - 1;
    this.#tableEntries = setup.tables?.entries ?? 0;
    this.#batch = setup.inOrder === true ? new InOrderBatch(size) : undefined;
    this.#free = size;
    this.#freeTail = size - 1;
    this.#next = new Uint16Array(size);
    for (let i = 0; i < size; i++) this.#next[i] = i + 1;
    this.#occupied = new Uint16Array(size);
    this.#availNext = setup.firstIndex ?? 0;
    this.#availPublished = this.#availNext;
    this.#usedNext = this.#availNext;
    this.rings.availIndex = this.#availNext;
    this.rings.usedIndex = this.#usedNext;
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
    inTable = this.#tableEntries > 0 && readable.length + writable.length > 1,
  ): number {
    if (!this.begin(inTable)) return -1;
    for (const buffer of readable) if (!this.#putBuffer(buffer, false)) return -1;
    for (const buffer of writable) if (!this.#putBuffer(buffer, true)) return -1;
    return this.commit(token);
  }

  /** Starts a chain, giving up one that was begun and not committed. False: no descriptor is free. */
  begin(inTable = false): boolean {
    if (inTable && this.#tableEntries === 0)
      throw new Error(`queue ${this.index}: no room for indirect tables was given`);
    if (this.#free === 0) return false;
    this.#head = this.#freeHead;
    this.#last = NONE;
    this.#count = 0;
    this.#inTable = inTable;
    this.#writableBytes = 0;
    return true;
  }

  /** Adds a buffer at `high * 2^32 + low` to the chain begun. False: no room; begin another chain later. */
  put(low: number, high: number, length: number, writable: boolean): boolean {
    const flags = writable ? DescFlag.WRITE : 0;
    if (writable) this.#writableBytes += length;
    const rings = this.rings;
    if (this.#inTable) {
      if (this.#count === this.#tableEntries) return false;
      if (this.#count > 0) rings.linkTableEntry(this.#head, this.#count - 1);
      rings.setTableEntry(this.#head, this.#count, low, high, length, flags);
    } else {
      return this.#putDescriptor(low, high, length, flags);
    }
    this.#count++;
    return true;
  }

  putTable(low: number, high: number, entryBytes: number, writableBytes: number): boolean {
    this.#writableBytes += writableBytes;
    return this.#putDescriptor(low, high, entryBytes, DescFlag.INDIRECT);
  }

  #putDescriptor(low: number, high: number, length: number, flags: number): boolean {
    if (this.#count === this.#free) return false;
    const rings = this.rings;
    const index = this.#last === NONE ? this.#head : this.#next[this.#last];
    if (this.#last !== NONE) rings.link(this.#last, index);
    rings.setDescriptor(index, low, high, length, flags);
    this.#last = index;
    this.#count++;
    return true;
  }

  /** Ends the chain begun, which has at least one buffer, and returns its head. */
  commit(token?: Token): number {
    const head = this.#head;
    if (this.#count === 0) throw new Error(`queue ${this.index}: a chain without a buffer`);
    if (this.#inTable) this.rings.setTableReference(head, this.#count);
    const taken = this.#inTable ? 1 : this.#count;
    this.#freeHead = this.#next[this.#inTable ? head : this.#last];
    this.#free -= taken;
    this.#occupied[head] = taken;
    this.#count = 0;
    // Without tokens the array stays empty; with them a chain without one must not inherit its predecessor's.
    if (token !== undefined || this.#tokens.length > 0) this.#tokens[head] = token;
    this.#inFlight++;
    this.#batch?.added(head, this.#writableBytes);
    this.offer(head);
    return head;
  }

  /** Raw: puts any value into the next slot of the avail ring. `publish` shows it; nothing is accounted. */
  offer(head: number): void {
    this.rings.setAvailSlot(this.#availNext & this.#slotMask, head);
    this.#availNext = (this.#availNext + 1) & 0xffff;
  }

  /** Shows the device everything added so far. */
  publish(): void {
    const count = (this.#availNext - this.#availPublished) & 0xffff;
    if (count === 0) return;
    // Release: descriptors and ring entries first. Full fence: before the load in kickNeeded.
    this.rings.availIndex = this.#availNext;
    this.#availPublished = this.#availNext;
    this.#unkicked += count;
  }

  /** Whether the device wants a kick for what was published since the last call. Ask after `publish`. */
  kickNeeded(): boolean {
    const count = this.#unkicked;
    if (count === 0) return false;
    this.#unkicked = 0;
    if (!this.#eventIdx) return (this.rings.usedFlags & USED_NO_NOTIFY) === 0;
    if (count > 0xffff) return true;
    return passesEvent(this.rings.availEvent, this.#availPublished, count);
  }

  /** Takes the next returned chain: its head, with `usedLength`, or -1 if there is none or the device broke a rule. */
  pollUsed(): number {
    if (this.failure !== undefined) return -1;
    const batch = this.#batch;
    const rings = this.rings;
    const waiting = (rings.usedIndex - this.#usedNext) & 0xffff;
    if (waiting === 0) return -1;
    if (waiting > this.#inFlight)
      return this.#fail("index-jump", `used.idx is ${waiting} ahead, ${this.#inFlight} chains are in flight`);
    if (batch?.isOpen === true) return this.#takeOfBatch(batch);
    const slot = this.#usedNext & this.#slotMask;
    const head = rings.usedId(slot);
    const length = rings.usedLength(slot);
    if (head >= this.size) return this.#fail("head-out-of-range", `used element ${slot} names id ${head}`);
    if (this.#occupied[head] === 0)
      return this.#fail(
        "head-not-in-flight",
        `used element ${slot} names id ${head}, which is not in flight`,
      );
    if (batch !== undefined) {
      batch.open(head, length);
      return this.#takeOfBatch(batch);
    }
    this.usedLength = length;
    this.#usedNext = (this.#usedNext + 1) & 0xffff;
    this.#release(head);
    return head;
  }

  /** With IN_ORDER a used element returns all chains up to its id; `used.idx` counts each of them. */
  #takeOfBatch(batch: InOrderBatch): number {
    const head = batch.take();
    this.usedLength = batch.length;
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
    if (!this.#eventIdx) this.rings.availFlags = AVAIL_NO_INTERRUPT;
  }

  /**
   * Asks for a notification, with EVENT_IDX only once more than `after` chains have been returned. True: they have
   * been meanwhile, and no notification may come: poll again.
   */
  enableNotifications(after = 0): boolean {
    const skipped = this.#eventIdx ? after : 0;
    if (this.#eventIdx) this.rings.usedEvent = (this.#usedNext + skipped) & 0xffff;
    else this.rings.availFlags = 0;
    return this.failure === undefined && ((this.rings.usedIndex - this.#usedNext) & 0xffff) > skipped;
  }

  #putBuffer(buffer: BusBuffer, writable: boolean): boolean {
    return this.put(low32(buffer.address), high32(buffer.address), buffer.length, writable);
  }

  #release(head: number): void {
    const taken = this.#occupied[head];
    this.#occupied[head] = 0;
    let last = head;
    for (let i = 1; i < taken; i++) last = this.#next[last];
    if (this.#batch === undefined) {
      this.#next[last] = this.#freeHead;
      this.#freeHead = head;
    } else {
      // 2.7.5.1: with IN_ORDER each descriptor's next is the one behind it, so they come round in order.
      if (this.#free === 0) this.#freeHead = head;
      else this.#next[this.#freeTail] = head;
      this.#freeTail = last;
    }
    this.#free += taken;
    this.#inFlight--;
  }

  #fail(code: QueueFailureCode, text: string): number {
    this.failure = { code, message: `queue ${this.index}: ${text}` };
    return -1;
  }
}
