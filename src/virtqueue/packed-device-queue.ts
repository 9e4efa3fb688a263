/**
 * The device side of a packed virtqueue (virtio 1.4, 2.8). Knows nothing of what a buffer carries. The driver is
 * hostile: what is decided on is read once, checked, then used. Hot path: allocates nothing per chain.
 *
 * Ordering. A descriptor's flags are read with Atomics.load (acquire), the rest of its chain after them. Used
 * descriptors are written where the chains before them have been, all of a burst but for the flags of the first: the
 * driver looks at them in order, so that `publish`, one Atomics.store of those flags (release), shows them all. Event
 * structures are one 32-bit word each. Where one side writes and then reads what the other side last wrote (publish,
 * then the driver's event; our event, then the next descriptor) both are Atomics, which are sequentially consistent.
 */
import { Access, Outcome } from "../memory/address.js";
import type { AddressSpace } from "../memory/address-space.js";
import type { Chain } from "./chain.js";
import { type DeviceQueue, type PackedQueueSetup, Pop, type RingLog } from "./device-queue.js";
import type { QueueFailure, QueueFailureCode } from "./failure.js";
import { DESC_BYTES, DescFlag } from "./layout.js";
import { PackedChainWalker } from "./packed-chain-walker.js";
import {
  advance,
  EVENT_SUPPRESS_BYTES,
  EventFlag,
  indexOf,
  isAvailable,
  isPackedQueueSize,
  PACKED_ALIGNMENT,
  PACKED_DESC,
  packedDescBytes,
  passesPackedEvent,
  retreat,
  usedFlags,
} from "./packed-layout.js";
import { RingArea } from "./ring-area.js";

/** No generation of an address space has this value: the rings are not resolved. */
const UNRESOLVED = -1;

export class PackedDeviceQueue implements DeviceQueue {
  readonly index: number;
  readonly size: number;
  failure: QueueFailure | undefined;
  ringLog: RingLog | undefined;

  readonly #ringSpace: AddressSpace;
  readonly #eventIdx: boolean;
  readonly #desc: RingArea;
  readonly #driverEvent: RingArea;
  readonly #deviceEvent: RingArea;
  readonly #walker: PackedChainWalker;
  #generation = UNRESOLVED;
  #started = false;
  #broken = false;

  /** Where the next chain begins, where the next used descriptor goes, and where the driver sees the latter (`advance`). */
  #next: number;
  #usedNext: number;
  #usedPublished: number;
  /** The flags that `publish` writes, of the first descriptor of the burst. */
  #heldFlags = 0;
  /** Chains popped and not yet pushed, and the ring's descriptors that they occupy. */
  #inFlight = 0;
  #slotsInFlight = 0;
  /** Descriptors of the ring that each chain in flight occupies, by buffer id; 0: no such chain. */
  readonly #slots: Uint16Array;
  /** The ids of the chains popped last, for `unpop`: as many as can be in flight. */
  readonly #order: Uint16Array;
  #orderNext = 0;
  /** Descriptors passed by what was pushed since the latest `publish`. */
  #unpublished = 0;
  /** Descriptors passed by what was published since `needsNotification` was last asked. */
  #unsignalled = 0;
  #everAsked = false;
  #kicksEnabled = true;

  constructor(setup: PackedQueueSetup) {
    const { index, size } = setup;
    if (!isPackedQueueSize(size)) throw new RangeError(`queue ${index}: ${size} is no queue size`);
    this.index = index;
    this.size = size;
    this.#ringSpace = setup.ringSpace;
    this.#eventIdx = setup.eventIdx;
    this.#next = setup.availPosition;
    this.#usedNext = setup.usedPosition;
    this.#usedPublished = setup.usedPosition;
    this.#slots = new Uint16Array(size);
    this.#order = new Uint16Array(size);
    const { desc, driverEvent, deviceEvent } = PACKED_ALIGNMENT;
    const ring = packedDescBytes(size);
    this.#desc = new RingArea("descriptor ring", setup.desc, ring, desc, Access.READ_WRITE, 4);
    this.#driverEvent = new RingArea(
      "driver event suppression",
      setup.driverEvent,
      EVENT_SUPPRESS_BYTES,
      driverEvent,
      Access.READ,
      4,
    );
    this.#deviceEvent = new RingArea(
      "device event suppression",
      setup.deviceEvent,
      EVENT_SUPPRESS_BYTES,
      deviceEvent,
      Access.WRITE,
      4,
    );
    this.#walker = new PackedChainWalker(
      size,
      this.#desc,
      setup.bufferSpace,
      setup.hostReader,
      setup.indirect,
    );
    const badPosition = [setup.availPosition, setup.usedPosition].find(
      (position) => indexOf(position) >= size,
    );
    if (badPosition !== undefined)
      this.#break(
        "index-jump",
        `it was to go on at descriptor ${indexOf(badPosition)}, and has ${size} descriptors`,
      );
  }

  /** The next descriptor to look at, with the wrap counter in bit 15. */
  get nextAvail(): number {
    return this.#next;
  }

  /** Where the next used descriptor goes, likewise. */
  get nextUsed(): number {
    return this.#usedNext;
  }

  prepare(): Outcome {
    if (this.#broken) return Outcome.FAULT;
    if (this.#generation === this.#ringSpace.generation) return Outcome.OK;
    this.#generation = UNRESOLVED;
    // A ring is no part of the chain before: its pages count for themselves.
    this.#ringSpace.beginChain();
    // All three, even after a MISS: the more pages are known to be missing, the fewer round trips.
    const desc = this.#desc.resolve(this.#ringSpace);
    const driverEvent = this.#driverEvent.resolve(this.#ringSpace);
    const deviceEvent = this.#deviceEvent.resolve(this.#ringSpace);
    const problem = this.#desc.problem ?? this.#driverEvent.problem ?? this.#deviceEvent.problem;
    if (problem !== undefined) {
      this.#break(problem.code, problem.text);
      return Outcome.FAULT;
    }
    if (desc !== Outcome.OK || driverEvent !== Outcome.OK || deviceEvent !== Outcome.OK) return Outcome.MISS;
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
    const slot = indexOf(this.#next);
    const flags = this.#desc.load16(slot * DESC_BYTES + PACKED_DESC.flags.offset);
    if (!isAvailable(flags, this.#next)) return Pop.EMPTY;
    const slotsLeft = this.size - this.#slotsInFlight;
    if (slotsLeft === 0) return this.#failFull(slot);
    const outcome = this.#walker.walk(slot, flags, slotsLeft, chain);
    if (outcome === Outcome.MISS) return Pop.MISS;
    if (outcome === Outcome.FAULT) {
      this.#break(this.#walker.problem.code, this.#walker.problem.text);
      return Pop.BROKEN;
    }
    const id = chain.head;
    if (id >= this.size) return this.#failId(slot, id);
    if (this.#slots[id] !== 0) return this.#failTwice(slot, id);
    const taken = this.#walker.slots;
    this.#slots[id] = taken;
    this.#order[this.#orderNext] = id;
    if (++this.#orderNext === this.size) this.#orderNext = 0;
    this.#next = advance(this.#next, taken, this.size);
    this.#inFlight++;
    this.#slotsInFlight += taken;
    return Pop.CHAIN;
  }

  unpop(count: number): void {
    if (count > this.#inFlight)
      throw new RangeError(`queue ${this.index}: unpop of ${count}, ${this.#inFlight} chains are in flight`);
    for (let i = 0; i < count; i++) {
      this.#orderNext = (this.#orderNext === 0 ? this.size : this.#orderNext) - 1;
      const taken = this.#forget(this.#order[this.#orderNext]);
      this.#next = retreat(this.#next, taken, this.size);
    }
  }

  push(head: number, writtenBytes: number): void {
    if (head >= this.size || this.#slots[head] === 0)
      throw new Error(`queue ${this.index}: push of a chain that was not popped`);
    const taken = this.#forget(head);
    if (!this.#reachable()) return;
    const desc = this.#desc;
    const at = desc.base + indexOf(this.#usedNext) * DESC_BYTES;
    const words = desc.words32[at >>> desc.shift];
    const word = (at & desc.mask) >>> 2;
    words[word + 2] = writtenBytes;
    const flags = usedFlags(this.#usedNext) | (writtenBytes > 0 ? DescFlag.WRITE : 0);
    const words16 = desc.words16[at >>> desc.shift];
    words16[2 * word + 6] = head;
    if (this.#unpublished === 0) this.#heldFlags = flags;
    else words16[2 * word + 7] = flags;
    if (this.ringLog !== undefined) this.#logDescriptor(this.ringLog);
    this.#usedNext = advance(this.#usedNext, taken, this.size);
    this.#unpublished += taken;
  }

  publish(): void {
    if (this.#unpublished === 0 || !this.#reachable()) return;
    const at = indexOf(this.#usedPublished) * DESC_BYTES + PACKED_DESC.flags.offset;
    // Release: everything before these flags. Full fence: before the load in needsNotification.
    this.#desc.store16(at, this.#heldFlags);
    if (this.ringLog !== undefined) this.ringLog.wrote(this.#desc.resolved, at, 2);
    this.#usedPublished = this.#usedNext;
    this.#unsignalled += this.#unpublished;
    this.#unpublished = 0;
  }

  needsNotification(): boolean {
    const count = this.#unsignalled;
    if (count === 0 || !this.#reachable()) return false;
    this.#unsignalled = 0;
    const event = this.#driverEvent.load32(0);
    const flags = (event >>> 16) & 3;
    if (flags === EventFlag.DISABLE) return false;
    if (flags !== EventFlag.DESC || !this.#eventIdx) return true;
    const first = !this.#everAsked;
    this.#everAsked = true;
    // Who served this ring before us may have published without notifying, as in a split queue.
    if (first || count >= this.size) return true;
    return passesPackedEvent(event & 0xffff, this.#usedPublished, count, this.size);
  }

  disableKicks(): void {
    this.#kicksEnabled = false;
    if (this.#generation === this.#ringSpace.generation) this.#writeEvent(EventFlag.DISABLE << 16);
  }

  enableKicks(): boolean {
    this.#kicksEnabled = true;
    if (this.#broken || !this.#reachable()) return false;
    this.#askForKicks();
    // After the store above, so that either the driver sees the request or we see its new descriptor.
    const flags = this.#desc.load16(indexOf(this.#next) * DESC_BYTES + PACKED_DESC.flags.offset);
    return isAvailable(flags, this.#next);
  }

  /** Follows the chains to count them, whatever their content is. Not for the hot path. */
  available(): number {
    if (this.#broken || this.#generation !== this.#ringSpace.generation) return 0;
    let position = this.#next;
    let chains = 0;
    let isHead = true;
    for (let left = this.size - this.#slotsInFlight; left > 0; left--) {
      const flags = this.#desc.load16(indexOf(position) * DESC_BYTES + PACKED_DESC.flags.offset);
      if (isHead && !isAvailable(flags, position)) break;
      isHead = (flags & DescFlag.NEXT) === 0;
      if (isHead) chains++;
      position = advance(position, 1, this.size);
    }
    return chains;
  }

  /** Takes a chain out of the books; returns how many descriptors it occupied. */
  #forget(id: number): number {
    const taken = this.#slots[id];
    this.#slots[id] = 0;
    this.#inFlight--;
    this.#slotsInFlight -= taken;
    return taken;
  }

  /** The first time that the rings are reachable. */
  #start(): void {
    this.#started = true;
    if (this.#kicksEnabled) this.#askForKicks();
    else this.#writeEvent(EventFlag.DISABLE << 16);
  }

  #askForKicks(): void {
    this.#writeEvent(this.#eventIdx ? (EventFlag.DESC << 16) | this.#next : EventFlag.ENABLE << 16);
  }

  #writeEvent(word: number): void {
    this.#deviceEvent.store32(0, word);
    if (this.ringLog !== undefined) this.ringLog.wrote(this.#deviceEvent.resolved, 0, EVENT_SUPPRESS_BYTES);
  }

  /** The whole descriptor, its flags that may come later included. */
  #logDescriptor(log: RingLog): void {
    log.wrote(this.#desc.resolved, indexOf(this.#usedNext) * DESC_BYTES, DESC_BYTES);
  }

  #failFull(slot: number): Pop {
    this.#break(
      "index-jump",
      `descriptor ${slot} is available again, and all ${this.size} descriptors are in flight`,
    );
    return Pop.BROKEN;
  }

  /** The specification sets ids no limit, and drivers count them from 0 below the size of the queue: ours is that. */
  #failId(slot: number, id: number): Pop {
    this.#break(
      "head-out-of-range",
      `the chain at descriptor ${slot} has buffer id ${id}, the queue has ${this.size} descriptors`,
    );
    return Pop.BROKEN;
  }

  #failTwice(slot: number, id: number): Pop {
    this.#break(
      "id-in-flight",
      `the chain at descriptor ${slot} has buffer id ${id}, which another one has that is not returned yet`,
    );
    return Pop.BROKEN;
  }

  #break(code: QueueFailureCode, text: string): void {
    this.#broken = true;
    this.failure ??= { code, message: `queue ${this.index}: ${text}` };
  }

  /** As in `split-device-queue.ts`: false if the rings are gone and the queue is broken. */
  #reachable(): boolean {
    if (this.#generation === this.#ringSpace.generation) return true;
    if (this.#broken) return false;
    throw new Error(`queue ${this.index}: used without prepare() after its address space changed`);
  }
}
