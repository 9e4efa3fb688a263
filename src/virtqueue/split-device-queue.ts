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
import { type DeviceQueue, Pop, type RingLog, type SplitQueueSetup } from "./device-queue.js";
import type { QueueFailure, QueueFailureCode } from "./failure.js";
import type { InflightRing } from "./inflight-ring.js";
import {
  ALIGNMENT,
  AVAIL,
  AVAIL_NO_INTERRUPT,
  availBytes,
  availRingOffset,
  descBytes,
  isQueueSize,
  passesEvent,
  RING_START_BYTES,
  USED,
  USED_ELEMENT_BYTES,
  USED_NO_NOTIFY,
  usedBytes,
  usedRingOffset,
} from "./layout.js";
import { RingArea } from "./ring-area.js";
import { SplitChainWalker } from "./split-chain-walker.js";

/** No generation of an address space has this value: the rings are not resolved. */
const UNRESOLVED = -1;

export class SplitDeviceQueue implements DeviceQueue {
  readonly index: number;
  readonly size: number;
  failure: QueueFailure | undefined;
  ringLog: RingLog | undefined;
  inflight: InflightRing | undefined;
  replayed = false;

  readonly #ringSpace: AddressSpace;
  readonly #eventIdx: boolean;
  readonly #slotMask: number;
  readonly #desc: RingArea;
  readonly #avail: RingArea;
  readonly #used: RingArea;
  readonly #walker: SplitChainWalker;
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
  /** The first chains that are not pushed yet, as many as this, had been taken by a back-end before us. */
  #replays = 0;

  constructor(setup: SplitQueueSetup) {
    if (!isQueueSize(setup.size))
      throw new RangeError(`queue ${setup.index}: ${setup.size} is no queue size`);
    this.index = setup.index;
    this.size = setup.size;
    this.#ringSpace = setup.ringSpace;
    this.#eventIdx = setup.eventIdx;
    this.#slotMask = setup.size - 1;
    this.#next = setup.base & 0xffff;
    this.#availSeen = this.#next;
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
    this.#walker = new SplitChainWalker(
      size,
      this.#desc,
      setup.bufferSpace,
      setup.hostReader,
      setup.indirect,
    );
  }

  get nextAvail(): number {
    return this.#next;
  }

  prepare(): Outcome {
    if (this.#broken) return Outcome.FAULT;
    if (this.#generation === this.#ringSpace.generation) return Outcome.OK;
    this.#generation = UNRESOLVED;
    // A ring is no part of the chain before: its pages count for themselves.
    this.#ringSpace.beginChain();
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
    const outcome = this.#walker.walk(head, chain);
    if (outcome === Outcome.MISS) return Pop.MISS;
    if (outcome === Outcome.FAULT) {
      this.#break(this.#walker.problem.code, this.#walker.problem.text);
      return Pop.BROKEN;
    }
    this.#next = (this.#next + 1) & 0xffff;
    this.#inFlight++;
    if (this.inflight !== undefined) {
      this.inflight.popped(head);
      this.replayed = this.#inFlight <= this.#replays;
    }
    return Pop.CHAIN;
  }

  unpop(count: number): void {
    if (count > this.#inFlight)
      throw new RangeError(`queue ${this.index}: unpop of ${count}, ${this.#inFlight} chains are in flight`);
    // A chain that a back-end before us had taken stays noted.
    this.inflight?.unpopped(Math.max(0, this.#inFlight - Math.max(this.#replays, this.#inFlight - count)));
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
    if (this.inflight !== undefined) this.inflight.pushed(head);
    if (this.#replays > 0) this.#replays--;
  }

  publish(): void {
    const count = (this.#usedNext - this.#usedPublished) & 0xffff;
    if (count === 0 || !this.#reachable()) return;
    // Release: the elements before the index. Full fence: the index before the load in needsNotification.
    this.#used.store16(USED.idx.offset, this.#usedNext);
    if (this.ringLog !== undefined) this.#logPublished(this.ringLog, count);
    if (this.inflight !== undefined) this.inflight.published(this.#usedNext);
    this.#usedPublished = this.#usedNext;
    this.#unsignalled += count;
  }

  needsNotification(): boolean {
    const count = this.#unsignalled;
    if (count === 0 || !this.#reachable()) return false;
    this.#unsignalled = 0;
    if (!this.#eventIdx) return (this.#avail.load16(AVAIL.flags.offset) & AVAIL_NO_INTERRUPT) === 0;
    const first = !this.#everAsked;
    this.#everAsked = true;
    // Who served this ring before us may have published without notifying (Linux: signalled_used_valid).
    if (first || count > 0xffff) return true;
    return passesEvent(this.#avail.load16(availRingOffset(this.size)), this.#usedPublished, count);
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
    if (this.#broken || this.#generation !== this.#ringSpace.generation || !this.#readAvailIdx()) return 0;
    return (this.#availSeen - this.#next) & 0xffff;
  }

  /** The first time that the rings are reachable: where the used ring stands, and that we want kicks. */
  #start(): void {
    this.#started = true;
    this.#usedNext = this.#used.load16(USED.idx.offset);
    this.#usedPublished = this.#usedNext;
    if (this.inflight !== undefined) this.#takeUp(this.inflight);
    this.#writeUsedFlags(this.#eventIdx || this.#kicksEnabled ? 0 : USED_NO_NOTIFY);
    if (this.#eventIdx) this.#askForKicks();
  }

  /**
   * Goes on where another back-end was, whatever the front-end knows of it: behind what was returned, with what was taken
   * and not returned. Buffers are used in the order in which they came, here, so those are the first that are available;
   * if not, the driver has set up its ring anew since (or another back-end, with an order of its own, has made the file).
   */
  #takeUp(inflight: InflightRing): void {
    const heads = inflight.recover(this.#usedNext);
    const available = (this.#avail.load16(AVAIL.idx.offset) - this.#usedNext) & 0xffff;
    const isThisRing =
      heads.length <= available &&
      heads.every((head, index) => head === this.#availableHead(this.#usedNext + index));
    if (isThisRing) this.#replays = heads.length;
    else inflight.forgetAll();
    this.#next = this.#usedNext;
    this.#availSeen = this.#next;
  }

  #availableHead(idx: number): number {
    const avail = this.#avail;
    const at = avail.base + RING_START_BYTES + 2 * (idx & this.#slotMask);
    return avail.words16[at >>> avail.shift][(at & avail.mask) >>> 1];
  }

  #askForKicks(): void {
    if (this.#eventIdx) this.#storeUsed(usedRingOffset(this.size), this.#next);
    else this.#writeUsedFlags(0);
  }

  #writeUsedFlags(flags: number): void {
    this.#storeUsed(USED.flags.offset, flags);
  }

  #storeUsed(offset: number, value: number): void {
    this.#used.store16(offset, value);
    if (this.ringLog !== undefined) this.ringLog.wrote(this.#used.resolved, offset, 2);
  }

  /** The index, and `count` elements up to it, which may go around the end of the ring. */
  #logPublished(log: RingLog, count: number): void {
    const { resolved } = this.#used;
    log.wrote(resolved, USED.idx.offset, 2);
    const first = this.#usedPublished & this.#slotMask;
    const atEnd = Math.min(count, this.size - first);
    log.wrote(resolved, RING_START_BYTES + USED_ELEMENT_BYTES * first, USED_ELEMENT_BYTES * atEnd);
    log.wrote(resolved, RING_START_BYTES, USED_ELEMENT_BYTES * (count - atEnd));
  }

  #readAvailIdx(): boolean {
    const idx = this.#avail.load16(AVAIL.idx.offset);
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

  #break(code: QueueFailureCode, text: string): void {
    this.#broken = true;
    this.failure ??= { code, message: `queue ${this.index}: ${text}` };
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
