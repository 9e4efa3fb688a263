/**
 * As `prepared-ring.ts`, for a packed ring: what each buffer's descriptor says is kept, and written anew to the next
 * place of the ring when the buffer is posted. Allocates nothing per packet. Must not know what the buffers carry.
 */

import { createEventfd, signalEventfd } from "../src/linux/eventfd.js";
import { PackedDriverRings } from "../src/virtqueue/packed-driver-rings.js";
import {
  advance,
  availableFlags,
  EventFlag,
  FIRST_POSITION,
  indexOf,
  isUsed,
  passesPackedEvent,
  placePackedQueue,
} from "../src/virtqueue/packed-layout.js";
import type { GuestQueue } from "../src/vmm/player.js";
import type { RingPlace } from "./prepared-ring.js";

const AREA_ALIGNMENT = 64;

export class PreparedPackedRing implements GuestQueue {
  readonly addresses: GuestQueue["addresses"];
  readonly kickFd = createEventfd();
  readonly callFd = createEventfd();
  /** Chains that are with the device. */
  inFlight = 0;
  kicks = 0;

  readonly #rings: PackedDriverRings;
  readonly #low: Uint32Array;
  readonly #high: Uint32Array;
  readonly #bytes: Uint32Array;
  readonly #flags: Uint16Array;
  #availNext = FIRST_POSITION;
  #usedNext = FIRST_POSITION;
  /** Posted and not shown yet; the first of them, whose flags show them all. */
  #posted = 0;
  #heldSlot = 0;
  #heldFlags = 0;

  /** `place`: zeroed memory, aligned to a page, of `bytesFor(size)` bytes. */
  constructor(
    { bus, host }: RingPlace,
    readonly size: number,
  ) {
    const { desc, driverEvent, deviceEvent } = placePackedQueue(size, AREA_ALIGNMENT);
    const at = (offset: number) => bus + BigInt(offset);
    this.addresses = { desc: at(desc), avail: at(driverEvent), used: at(deviceEvent) };
    this.#rings = new PackedDriverRings({
      size,
      desc: host + desc,
      driverEvent: host + driverEvent,
      deviceEvent: host + deviceEvent,
    });
    this.#low = new Uint32Array(size);
    this.#high = new Uint32Array(size);
    this.#bytes = new Uint32Array(size);
    this.#flags = new Uint16Array(size);
  }

  static bytesFor(size: number): number {
    return placePackedQueue(size, AREA_ALIGNMENT).totalBytes;
  }

  setDescriptor(head: number, low: number, high: number, bytes: number, flags: number): void {
    this.#low[head] = low;
    this.#high[head] = high;
    this.#bytes[head] = bytes;
    this.#flags[head] = flags;
  }

  post(head: number): void {
    const rings = this.#rings;
    const slot = indexOf(this.#availNext);
    rings.setBuffer(slot, this.#low[head], this.#high[head], this.#bytes[head]);
    rings.setId(slot, head);
    const flags = this.#flags[head] | availableFlags(this.#availNext);
    if (this.#posted++ > 0) {
      rings.setFlags(slot, flags);
    } else {
      this.#heldSlot = slot;
      this.#heldFlags = flags;
    }
    this.#availNext = advance(this.#availNext, 1, this.size);
    this.inFlight++;
  }

  /** Shows the device what was posted, and kicks it if it wants to be. */
  publish(): void {
    const count = this.#posted;
    if (count === 0) return;
    this.#posted = 0;
    this.#rings.setFlags(this.#heldSlot, this.#heldFlags);
    const event = this.#rings.deviceEvent;
    const flags = event >>> 16;
    if (flags === EventFlag.DISABLE) return;
    if (
      flags === EventFlag.DESC &&
      count < this.size &&
      !passesPackedEvent(event & 0xffff, this.#availNext, count, this.size)
    )
      return;
    this.kicks++;
    signalEventfd(this.kickFd);
  }

  /** The head of the next chain that the device has returned, or -1. */
  take(): number {
    const slot = indexOf(this.#usedNext);
    if (this.inFlight === 0 || !isUsed(this.#rings.flags(slot), this.#usedNext)) return -1;
    this.#usedNext = advance(this.#usedNext, 1, this.size);
    this.inFlight--;
    return this.#rings.id(slot);
  }
}
