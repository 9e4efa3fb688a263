/**
 * The driver side of one split ring for measuring: descriptors are written once, when the ring is made, and a packet
 * that goes out costs one entry of the avail ring. Returned chains may come in any order. Allocates nothing per packet.
 * Must not know what the buffers carry.
 */

import { createEventfd, signalEventfd } from "../src/linux/eventfd.js";
import { passesEvent, placeSplitQueue, USED_NO_NOTIFY } from "../src/virtqueue/layout.js";
import { SplitDriverRings } from "../src/virtqueue/split-driver-rings.js";
import type { GuestQueue } from "../src/vmm/player.js";

/** As Linux aligns the areas: to a cache line. */
const AREA_ALIGNMENT = 64;

/** Where the driver and the device see the same memory. */
export interface RingPlace {
  readonly host: number;
  readonly bus: bigint;
}

export class PreparedRing implements GuestQueue {
  readonly addresses: GuestQueue["addresses"];
  readonly kickFd = createEventfd();
  readonly callFd = createEventfd();
  readonly rings: SplitDriverRings;
  /** Chains that are with the device. */
  inFlight = 0;
  kicks = 0;
  /** Bytes that the device wrote into the chain that `take` returned last. */
  takenBytes = 0;

  readonly #mask: number;
  readonly #eventIdx: boolean;
  #availNext = 0;
  #availShown = 0;
  #usedNext = 0;
  /** What `used.idx` was when it was last looked at. */
  #usedSeen = 0;

  /** `place`: zeroed memory, aligned to a page, of `bytesFor(size)` bytes. */
  constructor(
    place: RingPlace,
    readonly size: number,
    eventIdx: boolean,
  ) {
    const placement = placeSplitQueue(size, AREA_ALIGNMENT);
    const { bus, host } = place;
    const at = (offset: number) => bus + BigInt(offset);
    this.addresses = { desc: at(placement.desc), avail: at(placement.avail), used: at(placement.used) };
    this.rings = new SplitDriverRings({
      size,
      desc: host + placement.desc,
      avail: host + placement.avail,
      used: host + placement.used,
    });
    this.#mask = size - 1;
    this.#eventIdx = eventIdx;
  }

  static bytesFor(size: number): number {
    return placeSplitQueue(size, AREA_ALIGNMENT).totalBytes;
  }

  setDescriptor(head: number, low: number, high: number, bytes: number, flags: number): void {
    this.rings.setDescriptor(head, low, high, bytes, flags);
  }

  post(head: number): void {
    this.rings.setAvailSlot(this.#availNext & this.#mask, head);
    this.#availNext = (this.#availNext + 1) & 0xffff;
    this.inFlight++;
  }

  /** Shows the device what was posted, and kicks it if it wants to be. */
  publish(): void {
    const count = (this.#availNext - this.#availShown) & 0xffff;
    if (count === 0) return;
    this.rings.availIndex = this.#availNext;
    this.#availShown = this.#availNext;
    const isWanted = this.#eventIdx
      ? passesEvent(this.rings.availEvent, this.#availNext, count)
      : (this.rings.usedFlags & USED_NO_NOTIFY) === 0;
    if (!isWanted) return;
    this.kicks++;
    signalEventfd(this.kickFd);
  }

  /** The head of the next chain that the device has returned, or -1. */
  take(): number {
    if (this.#usedNext === this.#usedSeen) {
      this.#usedSeen = this.rings.usedIndex;
      if (this.#usedNext === this.#usedSeen) return -1;
    }
    const slot = this.#usedNext & this.#mask;
    this.#usedNext = (this.#usedNext + 1) & 0xffff;
    this.inFlight--;
    this.takenBytes = this.rings.usedLength(slot);
    return this.rings.usedId(slot);
  }

  /** Asks to be told once more than `after` chains have come back. False: they have meanwhile. */
  arm(after: number): boolean {
    if (this.#eventIdx) this.rings.usedEvent = (this.#usedNext + after) & 0xffff;
    return ((this.rings.usedIndex - this.#usedNext) & 0xffff) <= after;
  }
}
