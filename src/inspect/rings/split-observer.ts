/**
 * Looks at a split ring from outside, from time to time: what was made available and what was used since it looked last
 * (VIRTIO, Split Virtqueues). Both indices are read, nothing is written. What is in the ring may be old, or rubbish, by
 * then: every number is checked, and no more than a ring's worth is looked at.
 */
import {
  AVAIL,
  availRingOffset,
  DESC,
  DESC_BYTES,
  DescFlag,
  USED,
  usedRingOffset,
} from "../../virtqueue/layout.js";
import type { RingArea } from "../../virtqueue/ring-area.js";
import type { BufferBook, Returned } from "./buffer-book.js";
import { ObservedChain, type ObservedDescriptor } from "./observed-chain.js";
import type { RingFaultKind, RingTraffic } from "./traffic.js";

const INDEX_MASK = 0xffff;

export interface RingAreas {
  readonly desc: RingArea;
  readonly avail: RingArea;
  readonly used: RingArea;
}

export class SplitObserver {
  readonly #size: number;
  readonly #areas: RingAreas;
  readonly #book: BufferBook;
  readonly #traffic: RingTraffic;
  readonly #fault: (kind: RingFaultKind, text: string) => void;
  /** Both indices as they were last. */
  #avail: number;
  #used: number;
  #isBegun = false;
  /** Every buffer that the device has is known. */
  #isComplete = false;

  /** @param base SET_VRING_BASE: the next buffer that the device takes */
  constructor(
    size: number,
    base: number,
    areas: RingAreas,
    book: BufferBook,
    traffic: RingTraffic,
    fault: (kind: RingFaultKind, text: string) => void,
  ) {
    this.#fault = fault;
    this.#size = size;
    this.#areas = areas;
    this.#book = book;
    this.#traffic = traffic;
    this.#avail = base & INDEX_MASK;
    this.#used = base & INDEX_MASK;
  }

  /** Where the device has got to: it goes on there if it is stopped now and started again. */
  get usedPosition(): number {
    return this.#used;
  }

  /** Buffers that are the device's. */
  get inFlight(): number {
    return distance(this.#used, this.#avail);
  }

  /** Whether anything has moved. The areas are there to be read. */
  look(): boolean {
    const used = this.#areas.used.load16(USED.idx.offset);
    const avail = this.#areas.avail.load16(AVAIL.idx.offset);
    if (!this.#isBegun) this.#begin(avail, used);
    const made = distance(this.#avail, avail);
    const returned = distance(this.#used, used);
    if (made === 0 && returned === 0) {
      this.#book.retry(this.#isCertain);
      return false;
    }
    this.#traffic.available += made;
    this.#traffic.used += returned;
    const inFlight = distance(used, avail);
    // Unless both have moved on between the two readings.
    if (inFlight > this.#size && this.#areas.used.load16(USED.idx.offset) === used)
      this.#fault("indices", `the used index is ${used}, the available one ${avail}`);
    if (Math.max(made, returned, inFlight) > this.#size) {
      this.#skip(avail, used, inFlight);
    } else {
      const chains = this.#chains(this.#avail, made);
      this.#avail = avail;
      this.#book.madeAvailable(chains, this.#isCertain);
      const elements = this.#elements(returned);
      this.#checkNames(elements);
      this.#book.returned(elements);
    }
    this.#used = used;
    this.#book.settle();
    return true;
  }

  /** Within one look a name may come twice; what matters is that it was there at all. */
  #checkNames(elements: readonly Returned[]): void {
    for (const { id } of elements) {
      if (id >= this.#size)
        this.#fault("used-unknown", `a used element names ${id} of ${this.#size} descriptors`);
      else if (this.#isComplete && !this.#book.has(id))
        this.#fault(
          "used-unknown",
          `a used element names descriptor ${id}, where no buffer of the device's begins`,
        );
    }
  }

  /** A device that was stopped with buffers in its hands goes on where it used one last, not where it took one. */
  #begin(avail: number, used: number): void {
    this.#isBegun = true;
    this.#isComplete = used === this.#used;
    if (distance(this.#used, used) <= distance(this.#used, avail)) return;
    this.#avail = used;
    this.#used = used;
  }

  /**
   * More than a ring's worth has passed, or the indices contradict each other. What is in flight now is looked at anew,
   * as if buffers were used in their order.
   */
  #skip(avail: number, used: number, inFlight: number): void {
    this.#traffic.unseen += distance(this.#used, used);
    this.#isComplete = false;
    this.#book.forget();
    this.#used = used;
    this.#avail = avail;
    if (inFlight <= this.#size)
      this.#book.madeAvailable(this.#chains((avail - inFlight) & INDEX_MASK, inFlight), this.#isCertain);
  }

  /** Nothing was returned since the last look, so that whatever was available then still is. */
  readonly #isCertain = (): boolean => this.#areas.used.load16(USED.idx.offset) === this.#used;

  #chains(first: number, count: number): ObservedChain[] {
    const heads = Array.from({ length: count }, (_, index) =>
      this.#areas.avail.load16(availRingOffset((first + index) & (this.#size - 1))),
    );
    const latest = new Map(heads.map((head, index) => [head, index]));
    // The descriptors of a head that comes again are the later one's by now.
    const chains = heads.map((head, index) =>
      latest.get(head) === index ? this.#chain(head) : new ObservedChain(head, 1, undefined),
    );
    const overwritten = distance(first, this.#areas.avail.load16(AVAIL.idx.offset)) - this.#size;
    if (overwritten > 0) this.#isComplete = false;
    return chains.map((chain, index) =>
      index < overwritten ? new ObservedChain(chain.id, 1, undefined) : chain,
    );
  }

  #chain(head: number): ObservedChain {
    const descriptors: ObservedDescriptor[] = [];
    for (let index = head; index < this.#size && descriptors.length < this.#size; ) {
      const { desc } = this.#areas;
      const at = index * DESC_BYTES;
      const flagsAndNext = desc.load32(at + DESC.flags.offset);
      const flags = flagsAndNext & 0xffff;
      const low = desc.load32(at + DESC.addr.offset);
      const high = desc.load32(at + DESC.addr.offset + 4);
      descriptors.push({ low, high, length: desc.load32(at + DESC.len.offset), flags });
      if ((flags & DescFlag.NEXT) === 0) return new ObservedChain(head, descriptors.length, descriptors);
      index = flagsAndNext >>> 16;
    }
    return new ObservedChain(head, 1, undefined);
  }

  #elements(count: number): Returned[] {
    const { used } = this.#areas;
    return Array.from({ length: count }, (_, index) => {
      const at = usedRingOffset((this.#used + index) & (this.#size - 1));
      return { id: used.load32(at), writtenBytes: used.load32(at + 4) };
    });
  }
}

function distance(from: number, to: number): number {
  return (to - from) & INDEX_MASK;
}
