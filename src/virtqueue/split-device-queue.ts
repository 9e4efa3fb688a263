/**
 * The device side of a split virtqueue (virtio 1.4, 2.7). Knows nothing of what a buffer carries. The driver is
 * hostile: each field of guest memory is read once, checked, then used. Hot path: allocates nothing per chain.
 *
 * Ordering. `avail.idx` is read with Atomics.load (acquire): the ring entry and the descriptors behind it are read
 * after it. `used.idx` is written with Atomics.store (release): the used elements are visible before it. Where one
 * side writes its index and then reads what the other side last wrote (publish, then the driver's `used_event`;
 * `avail_event`, then the driver's `avail.idx`) a store must not pass a later load: both are Atomics, which are
 * sequentially consistent (xchg on x86-64, stlr before ldar on arm64). Everything else is plain.
 */
import { Access, Outcome } from "../memory/address.js";
import type { AddressSpace } from "../memory/address-space.js";
import type { Chain } from "./chain.js";
import { type DeviceQueue, Pop, type SplitQueueSetup } from "./device-queue.js";
import type { QueueFailure, QueueFailureCode } from "./failure.js";
import { IndirectTable } from "./indirect-table.js";
import {
  ALIGNMENT,
  AVAIL,
  AVAIL_NO_INTERRUPT,
  availBytes,
  availRingOffset,
  DESC,
  DESC_BYTES,
  DescFlag,
  descBytes,
  isQueueSize,
  MOST_QUEUE_SIZE,
  passesEvent,
  RING_START_BYTES,
  USED,
  USED_ELEMENT_BYTES,
  USED_NO_NOTIFY,
  usedBytes,
  usedRingOffset,
} from "./layout.js";
import { RingArea } from "./ring-area.js";

/** 2.7.5.2: a driver must not make a chain longer than this in total. */
const MOST_CHAIN_BYTES = 2 ** 32;

/**
 * 2.7.5.3.1 forbids the driver an indirect chain longer than the queue size. Linux drivers with many segments have
 * not always kept to it, so the limit is our choice: the largest queue that the specification knows.
 */
export const MOST_INDIRECT_ENTRIES = MOST_QUEUE_SIZE;

/** No generation of an address space has this value: the rings are not resolved. */
const UNRESOLVED = -1;

const AVAIL_IDX = AVAIL.idx.offset >> 1;
const USED_FLAGS = USED.flags.offset >> 1;
const USED_IDX = USED.idx.offset >> 1;

export class SplitDeviceQueue implements DeviceQueue {
  readonly index: number;
  readonly size: number;
  failure: QueueFailure | undefined;

  readonly #ringSpace: AddressSpace;
  readonly #bufferSpace: AddressSpace;
  readonly #eventIdx: boolean;
  readonly #indirect: boolean;
  readonly #slotMask: number;
  readonly #desc: RingArea;
  readonly #avail: RingArea;
  readonly #used: RingArea;
  readonly #table: IndirectTable;
  #generation = UNRESOLVED;
  #started = false;
  #broken = false;

  /** The next avail index to pop, and `avail.idx` as last read. */
  #next: number;
  #availSeen: number;
  /** The used index that the next push takes, and the one that the driver can see. */
  #usedNext = 0;
  #usedPublished = 0;
  /** Chains popped and not yet pushed. */
  #inFlight = 0;
  /** Entries published since `needsNotification` was last asked. */
  #unsignalled = 0;
  #everAsked = false;
  #kicksEnabled = true;

  /** About the chain being popped: its bytes so far, and whether a writable descriptor was met. */
  #chainBytes = 0;
  #sawWritable = false;

  constructor(setup: SplitQueueSetup) {
    if (!isQueueSize(setup.size))
      throw new RangeError(`queue ${setup.index}: ${setup.size} is no queue size`);
    this.index = setup.index;
    this.size = setup.size;
    this.#ringSpace = setup.ringSpace;
    this.#bufferSpace = setup.bufferSpace;
    this.#eventIdx = setup.eventIdx;
    this.#indirect = setup.indirect;
    this.#slotMask = setup.size - 1;
    this.#next = setup.base & 0xffff;
    this.#availSeen = this.#next;
    this.#table = new IndirectTable(setup.hostReader);
    const { size, eventIdx } = setup;
    // The permissions that Linux asks for (vhost.c, vq_meta_prefetch): the used ring is only written, but for the
    // one look at used.idx when the ring starts.
    this.#desc = new RingArea(
      "descriptor table",
      setup.desc,
      descBytes(size),
      ALIGNMENT.desc,
      Access.READ,
      4,
    );
    this.#avail = new RingArea(
      "avail ring",
      setup.avail,
      availBytes(size, eventIdx),
      ALIGNMENT.avail,
      Access.READ,
      2,
    );
    this.#used = new RingArea(
      "used ring",
      setup.used,
      usedBytes(size, eventIdx),
      ALIGNMENT.used,
      Access.WRITE,
      4,
    );
  }

  get nextAvail(): number {
    return this.#next;
  }

  prepare(): Outcome {
    if (this.#broken) return Outcome.FAULT;
    if (this.#generation === this.#ringSpace.generation) return Outcome.OK;
    this.#generation = UNRESOLVED;
    // All three, even after a MISS: the more pages are known to be missing, the fewer round trips.
    const desc = this.#desc.resolve(this.#ringSpace);
    const avail = this.#avail.resolve(this.#ringSpace);
    const used = this.#used.resolve(this.#ringSpace);
    const problem = this.#desc.problem ?? this.#avail.problem ?? this.#used.problem;
    if (problem !== undefined) {
      this.#break(problem.code, problem.text);
      return Outcome.FAULT;
    }
    if (desc !== Outcome.OK || avail !== Outcome.OK || used !== Outcome.OK) return Outcome.MISS;
    this.#generation = this.#ringSpace.generation;
    if (!this.#started) this.#start();
    return Outcome.OK;
  }

  pop(chain: Chain): Pop {
    if (this.#generation !== this.#ringSpace.generation) {
      const outcome = this.prepare();
      if (outcome !== Outcome.OK) return outcome === Outcome.MISS ? Pop.MISS : Pop.BROKEN;
    }
    if (this.#broken) return Pop.BROKEN;
    if (this.#next === this.#availSeen) {
      if (!this.#readAvailIdx()) return Pop.BROKEN;
      if (this.#next === this.#availSeen) return Pop.EMPTY;
    }
    const avail = this.#avail;
    const at = avail.base + RING_START_BYTES + 2 * (this.#next & this.#slotMask);
    const head = avail.words16[at >>> avail.shift][(at & avail.mask) >>> 1];
    if (head >= this.size) {
      this.#break(
        "head-out-of-range",
        `avail ring names head ${head}, the queue has ${this.size} descriptors`,
      );
      return Pop.BROKEN;
    }
    chain.head = head;
    chain.descriptorCount = 0;
    chain.readable.clear();
    chain.writable.clear();
    this.#chainBytes = 0;
    this.#sawWritable = false;
    this.#bufferSpace.beginChain();
    const outcome = this.#walkQueue(head, chain);
    if (outcome !== Outcome.OK) return outcome === Outcome.MISS ? Pop.MISS : Pop.BROKEN;
    this.#next = (this.#next + 1) & 0xffff;
    this.#inFlight++;
    return Pop.CHAIN;
  }

  unpop(count: number): void {
    if (count > this.#inFlight)
      throw new RangeError(`queue ${this.index}: unpop of ${count}, ${this.#inFlight} chains are in flight`);
    this.#inFlight -= count;
    this.#next = (this.#next - count) & 0xffff;
  }

  push(head: number, writtenBytes: number): void {
    if (this.#inFlight === 0) throw new Error(`queue ${this.index}: push of a chain that was not popped`);
    this.#inFlight--;
    if (!this.#reachable()) return;
    const used = this.#used;
    // The two halves of an element can lie on different pages: the ring is aligned to 4, its elements are 8 long.
    const at = used.base + RING_START_BYTES + USED_ELEMENT_BYTES * (this.#usedNext & this.#slotMask);
    used.words32[at >>> used.shift][(at & used.mask) >>> 2] = head;
    used.words32[(at + 4) >>> used.shift][((at + 4) & used.mask) >>> 2] = writtenBytes;
    this.#usedNext = (this.#usedNext + 1) & 0xffff;
  }

  publish(): void {
    const count = (this.#usedNext - this.#usedPublished) & 0xffff;
    if (count === 0 || !this.#reachable()) return;
    // Release: the elements before the index. Full fence: the index before the load in needsNotification.
    Atomics.store(this.#used.words16[0], (this.#used.base >>> 1) + USED_IDX, this.#usedNext);
    this.#usedPublished = this.#usedNext;
    this.#unsignalled += count;
  }

  needsNotification(): boolean {
    const count = this.#unsignalled;
    if (count === 0 || !this.#reachable()) return false;
    this.#unsignalled = 0;
    const avail = this.#avail;
    if (!this.#eventIdx) return (Atomics.load(avail.words16[0], avail.base >>> 1) & AVAIL_NO_INTERRUPT) === 0;
    const first = !this.#everAsked;
    this.#everAsked = true;
    // Who served this ring before us may have published without notifying (Linux: signalled_used_valid).
    if (first || count > 0xffff) return true;
    const at = avail.base + availRingOffset(this.size);
    const event = Atomics.load(avail.words16[at >>> avail.shift], (at & avail.mask) >>> 1);
    return passesEvent(event, this.#usedPublished, count);
  }

  disableKicks(): void {
    this.#kicksEnabled = false;
    // 2.7.10: with EVENT_IDX used.flags stays 0. An avail_event that lies behind suppresses kicks by itself.
    if (!this.#eventIdx && this.#generation === this.#ringSpace.generation)
      this.#writeUsedFlags(USED_NO_NOTIFY);
  }

  enableKicks(): boolean {
    this.#kicksEnabled = true;
    if (this.#broken || !this.#reachable()) return false;
    this.#askForKicks();
    // After the store above, so that either the driver sees the request or we see its new index.
    return this.#readAvailIdx() && this.#next !== this.#availSeen;
  }

  available(): number {
    if (this.#broken || !this.#reachable() || !this.#readAvailIdx()) return 0;
    return (this.#availSeen - this.#next) & 0xffff;
  }

  /** The first time that the rings are reachable: where the used ring stands, and that we want kicks. */
  #start(): void {
    this.#started = true;
    const used = this.#used;
    this.#usedNext = Atomics.load(used.words16[0], (used.base >>> 1) + USED_IDX);
    this.#usedPublished = this.#usedNext;
    this.#writeUsedFlags(this.#eventIdx || this.#kicksEnabled ? 0 : USED_NO_NOTIFY);
    if (this.#eventIdx) this.#askForKicks();
  }

  #askForKicks(): void {
    if (!this.#eventIdx) {
      this.#writeUsedFlags(0);
      return;
    }
    const used = this.#used;
    const at = used.base + usedRingOffset(this.size);
    Atomics.store(used.words16[at >>> used.shift], (at & used.mask) >>> 1, this.#next);
  }

  #writeUsedFlags(flags: number): void {
    Atomics.store(this.#used.words16[0], (this.#used.base >>> 1) + USED_FLAGS, flags);
  }

  #readAvailIdx(): boolean {
    const avail = this.#avail;
    const idx = Atomics.load(avail.words16[0], (avail.base >>> 1) + AVAIL_IDX);
    const waiting = (idx - this.#next) & 0xffff;
    // What is in flight counts as well: each chain occupies at least one of the queue's descriptors.
    if (waiting + this.#inFlight > this.size) {
      this.#break(
        "index-jump",
        `avail.idx is ${idx}, next is ${this.#next} and ${this.#inFlight} chains are in flight: more than the queue's ${this.size} descriptors`,
      );
      return false;
    }
    this.#availSeen = idx;
    return true;
  }

  /** Follows the chain at `head`. Goes on after a MISS, to note further pages that are missing. */
  #walkQueue(head: number, chain: Chain): Outcome {
    const desc = this.#desc;
    let outcome: Outcome = Outcome.OK;
    let index = head;
    for (;;) {
      if (chain.descriptorCount === this.size)
        return this.#breakChain("chain-loops", chain, index, "", `the chain is longer than the queue`);
      chain.descriptorCount++;
      const at = desc.base + index * DESC_BYTES;
      const words = desc.words32[at >>> desc.shift];
      const word = (at & desc.mask) >>> 2;
      const low = words[word];
      const high = words[word + 1];
      const length = words[word + 2];
      const flagsAndNext = words[word + 3];
      if ((flagsAndNext & DescFlag.INDIRECT) !== 0) {
        const found = this.#walkTable(index, low, high, length, flagsAndNext, chain);
        return found === Outcome.OK ? outcome : found;
      }
      const found = this.#addBuffer(chain, low, high, length, flagsAndNext, index, -1);
      if (found === Outcome.FAULT) return found;
      if (found === Outcome.MISS) outcome = found;
      if ((flagsAndNext & DescFlag.NEXT) === 0) return outcome;
      index = flagsAndNext >>> 16;
      if (index >= this.size)
        return this.#breakChain("next-out-of-range", chain, index, "", `next points outside of the queue`);
    }
  }

  /** Follows the indirect table that descriptor `owner` refers to. The WRITE flag of `owner` means nothing (2.7.5.3.2). */
  #walkTable(owner: number, low: number, high: number, length: number, flags: number, chain: Chain): Outcome {
    const problem = this.#tableProblem(length, flags);
    if (problem !== undefined) return this.#breakChain(problem.code, chain, owner, "", problem.text);
    const table = this.#table;
    const opened = table.open(this.#bufferSpace, low, high, length);
    if (opened === Outcome.FAULT)
      return this.#breakChain("buffer-unreachable", chain, owner, "", this.#faultText("its indirect table"));
    if (opened === Outcome.MISS) return opened;
    const entries = length / DESC_BYTES;
    let outcome: Outcome = Outcome.OK;
    let index = 0;
    for (let walked = 0; ; walked++) {
      if (walked === entries)
        return this.#breakChain("chain-loops", chain, owner, `entry ${index}`, `the indirect chain loops`);
      chain.descriptorCount++;
      const at = table.locate(index);
      const data = table.data;
      const entryLow = data.getUint32(at, true);
      const entryHigh = data.getUint32(at + 4, true);
      const entryLength = data.getUint32(at + DESC.len.offset, true);
      const flagsAndNext = data.getUint32(at + DESC.flags.offset, true);
      if ((flagsAndNext & DescFlag.INDIRECT) !== 0)
        return this.#breakChain("indirect-nested", chain, owner, `entry ${index}`, `INDIRECT inside a table`);
      const found = this.#addBuffer(chain, entryLow, entryHigh, entryLength, flagsAndNext, owner, index);
      if (found === Outcome.FAULT) return found;
      if (found === Outcome.MISS) outcome = found;
      if ((flagsAndNext & DescFlag.NEXT) === 0) return outcome;
      const next = flagsAndNext >>> 16;
      if (next >= entries)
        return this.#breakChain(
          "next-out-of-range",
          chain,
          owner,
          `entry ${index}`,
          `next ${next} points outside of the table's ${entries} entries`,
        );
      index = next;
    }
  }

  #tableProblem(length: number, flags: number): { code: QueueFailureCode; text: string } | undefined {
    if (!this.#indirect)
      return { code: "indirect-not-negotiated", text: "INDIRECT without VIRTIO_F_INDIRECT_DESC" };
    if ((flags & DescFlag.NEXT) !== 0)
      return { code: "indirect-with-next", text: "INDIRECT and NEXT together (2.7.5.3.1)" };
    if (length === 0 || length % DESC_BYTES !== 0 || length / DESC_BYTES > MOST_INDIRECT_ENTRIES)
      return {
        code: "indirect-length",
        text: `an indirect table of ${length} bytes: a multiple of 16, at most ${MOST_INDIRECT_ENTRIES} entries`,
      };
    return undefined;
  }

  /** Adds one buffer to the chain. A buffer of no bytes is nowhere, so its address is not looked at. */
  #addBuffer(
    chain: Chain,
    low: number,
    high: number,
    length: number,
    flags: number,
    index: number,
    entry: number,
  ): Outcome {
    const writable = (flags & DescFlag.WRITE) !== 0;
    // A MISS leaves its part of the bytes out of the lists, so the sum is kept apart.
    this.#chainBytes += length;
    if (this.#chainBytes > MOST_CHAIN_BYTES)
      return this.#breakChain(
        "chain-too-large",
        chain,
        index,
        entryName(entry),
        `more than 2^32 bytes (2.7.5.2)`,
      );
    if (writable) this.#sawWritable = true;
    else if (this.#sawWritable)
      return this.#breakChain(
        "readable-after-writable",
        chain,
        index,
        entryName(entry),
        `readable after a writable one (2.7.4.2)`,
      );
    if (length === 0) return Outcome.OK;
    const found = writable
      ? this.#bufferSpace.translate(low, high, length, Access.WRITE, chain.writable)
      : this.#bufferSpace.translate(low, high, length, Access.READ, chain.readable);
    if (found === Outcome.FAULT)
      return this.#breakChain(
        "buffer-unreachable",
        chain,
        index,
        entryName(entry),
        this.#faultText(`its ${writable ? "writable" : "readable"} buffer`),
      );
    return found;
  }

  #faultText(what: string): string {
    return `${what} cannot be reached: ${this.#bufferSpace.fault?.message ?? "no reason given"}`;
  }

  #breakChain(code: QueueFailureCode, chain: Chain, index: number, entry: string, text: string): Outcome {
    const place = entry === "" ? "" : `${entry} of the indirect table of `;
    return this.#break(code, `${place}descriptor ${index} of the chain at head ${chain.head}: ${text}`);
  }

  #break(code: QueueFailureCode, text: string): Outcome {
    this.#broken = true;
    this.failure ??= { code, message: `queue ${this.index}: ${text}` };
    return Outcome.FAULT;
  }

  /**
   * True if the rings may be touched, false if they are gone and the queue is broken. To come here with rings that
   * were invalidated is a mistake of ours: the caller skipped `prepare`, or did not heed what it said.
   */
  #reachable(): boolean {
    if (this.#generation === this.#ringSpace.generation) return true;
    if (this.#broken) return false;
    throw new Error(`queue ${this.index}: used without prepare() after its address space changed`);
  }
}

function entryName(entry: number): string {
  return entry < 0 ? "" : `entry ${entry}`;
}
