/**
 * Looks at a packed ring from outside, from time to time (VIRTIO, Packed Virtqueues). The device writes used elements
 * over the very descriptors that the driver made available, so what went by between two looks leaves less behind than in
 * a split ring: where a used element's chain was not seen, its length is a guess, and a ring that is lost track of is
 * found again by its AVAIL flags, which tell on which lap the driver wrote each descriptor.
 */
import { DESC_BYTES, DescFlag } from "../../virtqueue/layout.js";
import {
  advance,
  FIRST_POSITION,
  indexOf,
  isAvailable,
  isUsed,
  PACKED_DESC,
  PackedFlag,
  retreat,
  WRAP_BIT,
} from "../../virtqueue/packed-layout.js";
import type { RingArea } from "../../virtqueue/ring-area.js";
import type { BufferBook, Returned } from "./buffer-book.js";
import { ObservedChain, type ObservedDescriptor } from "./observed-chain.js";
import type { RingTraffic } from "./traffic.js";

export class PackedObserver {
  readonly #size: number;
  readonly #desc: RingArea;
  readonly #book: BufferBook;
  readonly #traffic: RingTraffic;
  /** Where the driver makes the next buffer available. */
  #avail: number;
  /** Where the device puts the next used element. */
  #used: number;
  /** What was seen to be made available, by the position where it starts. */
  readonly #starts = new Map<number, ObservedChain>();

  /** @param base SET_VRING_BASE: the positions of both sides; 0 for a ring that nobody has used */
  constructor(size: number, base: number, desc: RingArea, book: BufferBook, traffic: RingTraffic) {
    this.#size = size;
    this.#desc = desc;
    this.#book = book;
    this.#traffic = traffic;
    // What the device had taken and not returned is seen as available once more.
    this.#used = base === 0 ? FIRST_POSITION : base >>> 16;
    this.#avail = this.#used;
  }

  /** Where the device has got to: it goes on there if it is stopped now and started again. */
  get usedPosition(): number {
    return this.#used;
  }

  /** Descriptors from the used to the available position; more than there are if these contradict each other. */
  get inFlight(): number {
    return this.#span(this.#used, this.#avail);
  }

  /** Whether anything has moved. The area is there to be read. */
  look(): boolean {
    const made = this.#takeAvailable();
    const elements = this.#takeUsed();
    this.#book.returned(elements);
    const isMoved = made + this.#takeAvailable() > 0 || elements.length > 0;
    this.#book.settle();
    if (this.#isLost()) this.#find();
    else if (!isMoved) this.#book.retry(this.#isCertain);
    return isMoved;
  }

  #flags(position: number): number {
    return this.#desc.load16(indexOf(position) * DESC_BYTES + PACKED_DESC.flags.offset);
  }

  readonly #isCertain = (): boolean => !isUsed(this.#flags(this.#used), this.#used);

  #takeAvailable(): number {
    const chains: ObservedChain[] = [];
    for (let left = this.#size; left > 0 && isAvailable(this.#flags(this.#avail), this.#avail); ) {
      const chain = this.#chain(this.#avail);
      if (this.#isBeingReturned()) break;
      chains.push(chain);
      this.#starts.set(this.#avail, chain);
      left -= chain.ringDescriptors;
      this.#avail = advance(this.#avail, chain.ringDescriptors, this.#size);
    }
    this.#traffic.available += chains.length;
    this.#book.madeAvailable(chains, this.#isCertain);
    return chains.length;
  }

  /**
   * Whether the device has put a used element over the next buffer meanwhile, or is about to, so that what was read may be
   * either. Its flags come last, behind a length that is 0 where the device has written nothing.
   */
  #isBeingReturned(): boolean {
    const flags = this.#flags(this.#avail);
    if (!isAvailable(flags, this.#avail)) return true;
    const length = this.#desc.load32(indexOf(this.#avail) * DESC_BYTES + PACKED_DESC.len.offset);
    return length === 0 && (flags & DescFlag.WRITE) === 0;
  }

  #takeUsed(): Returned[] {
    const elements: Returned[] = [];
    for (let left = this.#size; left > 0; ) {
      const element = isUsed(this.#flags(this.#used), this.#used) ? this.#element() : this.#overtaken();
      if (element === undefined) break;
      // A name that comes twice in one turn may have been made available in between, unseen.
      const nth = elements.filter(({ id }) => id === element.id).length;
      const known = this.#book.ringDescriptorsOf(element.id, nth);
      const taken = known ?? this.#missedLength(element.id);
      if (known === undefined) this.#traffic.available++;
      elements.push(element);
      left -= taken;
      // The device is never ahead of the driver: what it has used there was available.
      if (taken > this.inFlight) this.#avail = advance(this.#used, taken, this.#size);
      this.#used = advance(this.#used, taken, this.#size);
    }
    this.#traffic.used += elements.length;
    return elements;
  }

  /** What stands at the used position. */
  #element(): Returned {
    const at = indexOf(this.#used) * DESC_BYTES;
    // Without WRITE the device has written nothing, and the length means nothing (2.8.12).
    const isWritten = (this.#flags(this.#used) & DescFlag.WRITE) !== 0;
    const writtenBytes = isWritten ? this.#desc.load32(at + PACKED_DESC.len.offset) : 0;
    // The address is of no use there any more, and devices leave it as it is.
    const low = this.#desc.load32(at + PACKED_DESC.addr.offset);
    const high = this.#desc.load32(at + PACKED_DESC.addr.offset + 4);
    return { id: this.#idAt(this.#used), writtenBytes, left: { low, high } };
  }

  /**
   * The driver has written over the used element already, on its next lap. It can only have been that of the chain that
   * began there, if buffers are used in their order.
   */
  #overtaken(): Returned | undefined {
    const isNextLap = hasAvail(this.#flags(this.#used)) !== isOnFirstLap(this.#used);
    const chain = this.#starts.get(this.#used);
    if (this.#used === this.#avail || !isNextLap || chain === undefined) return undefined;
    return { id: chain.id, writtenBytes: undefined };
  }

  /** Descriptors from one position to another, less than two laps behind it. */
  #span(from: number, to: number): number {
    const isOnLap = ((from ^ to) & WRAP_BIT) === 0;
    const span = indexOf(to) - indexOf(from) + (isOnLap ? 0 : this.#size);
    return span < 0 ? span + 2 * this.#size : span;
  }

  /**
   * How long the chain was whose used element stands at the used position, and which was not seen: what is left of it
   * looks available still, and bears its name.
   */
  #missedLength(id: number): number {
    let length = 1;
    for (let at = this.#used; length < this.#size; length++) {
      at = advance(at, 1, this.#size);
      const isRest =
        isAvailable(this.#flags(at), at) &&
        this.#idAt(at) === id &&
        !this.#isIndirect(at) &&
        at !== this.#avail;
      if (!isRest) break;
    }
    return length;
  }

  #idAt(position: number): number {
    return this.#desc.load16(indexOf(position) * DESC_BYTES + PACKED_DESC.id.offset);
  }

  #isIndirect(position: number): boolean {
    return (this.#flags(position) & DescFlag.INDIRECT) !== 0;
  }

  /** Whether what stands in the ring cannot follow from what was there at the last look. */
  #isLost(): boolean {
    if (this.inFlight > this.#size) return true;
    const flags = this.#flags(this.#avail);
    const wasThere = hasAvail(flags) === isOnFirstLap(this.#avail);
    if (wasThere) return !isAvailable(flags, this.#avail) && !isUsed(this.#flags(this.#used), this.#used);
    // A new ring is all zeros, which is as if the driver had just gone round.
    const before = retreat(this.#avail, 1, this.#size);
    return hasAvail(this.#flags(before)) !== isOnFirstLap(before);
  }

  /**
   * Where the driver stands, by the lap on which it wrote each descriptor; what is in flight is behind that. How many
   * buffers went by meanwhile is taken from the descriptors that they took, as if each had one.
   */
  #find(): void {
    const lap = hasAvail(this.#flags(0));
    let index = 1;
    while (index < this.#size && hasAvail(this.#flags(index)) === lap) index++;
    const driver = index < this.#size ? index | wrapOf(lap) : wrapOf(!lap);
    const device = this.#oldestBefore(driver);
    const traffic = this.#traffic;
    const available = traffic.available + this.#span(this.#avail, driver);
    const returned = this.#span(this.#used, device);
    traffic.used += returned;
    traffic.unseen += returned;
    this.#book.forget();
    this.#used = device;
    this.#avail = device;
    this.#takeAvailable();
    traffic.available = available;
  }

  /**
   * The start of the oldest chain of those that are available one behind the other before `driver`. A used element takes
   * the place of its chain's first descriptor only, so the others look available still: what bears its name behind it is
   * taken for them, though a driver may have used the name again.
   */
  #oldestBefore(driver: number): number {
    let start = driver;
    for (let count = 0; count < this.#size; count++) {
      const before = retreat(start, 1, this.#size);
      if (!isAvailable(this.#flags(before), before)) {
        const isRest = start !== driver && this.#chain(start).id === this.#idAt(before);
        return isRest ? this.#behind(start, driver) : start;
      }
      start = before;
    }
    return start;
  }

  /** The position behind the chain that starts there, at most `driver`. */
  #behind(start: number, driver: number): number {
    const length = Math.min(this.#chain(start).ringDescriptors, this.#span(start, driver));
    return advance(start, length, this.#size);
  }

  #chain(start: number): ObservedChain {
    const descriptors: ObservedDescriptor[] = [];
    for (let at = start; descriptors.length < this.#size; at = advance(at, 1, this.#size)) {
      const offset = indexOf(at) * DESC_BYTES;
      const flags = this.#flags(at);
      const low = this.#desc.load32(offset + PACKED_DESC.addr.offset);
      const high = this.#desc.load32(offset + PACKED_DESC.addr.offset + 4);
      descriptors.push({ low, high, length: this.#desc.load32(offset + PACKED_DESC.len.offset), flags });
      // "The Buffer ID is in the last descriptor of the list" (2.8.6).
      if ((flags & DescFlag.NEXT) === 0)
        return new ObservedChain(this.#idAt(at), descriptors.length, descriptors);
    }
    return new ObservedChain(this.#idAt(start), 1, undefined);
  }
}

function hasAvail(flags: number): boolean {
  return (flags & PackedFlag.AVAIL) !== 0;
}

function isOnFirstLap(position: number): boolean {
  return (position & WRAP_BIT) !== 0;
}

function wrapOf(isFirst: boolean): number {
  return isFirst ? WRAP_BIT : 0;
}
