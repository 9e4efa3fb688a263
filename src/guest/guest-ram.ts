/**
 * The guest's memory: one memfd, sealed against shrinking, mapped in the guest's process, and an allocator of
 * physically contiguous blocks over it. Guest-physical addresses may have holes, as a PC has below 4 GiB.
 * Must not know who else maps the memory, or under which addresses.
 */
import { closeSync } from "node:fs";
import { createMemfd, mapShared, PAGE_BYTES, park, roundUp, view } from "../linux/mapping.js";
import { RunAllocator } from "./run-allocator.js";

/** A range of guest-physical addresses with memory behind it. */
export interface RamSlot {
  readonly gpa: number;
  readonly bytes: number;
  /** Where the range starts in the memfd. */
  readonly fileOffset: number;
}

/** Contiguous memory that belongs to somebody. */
export interface RamBlock {
  readonly gpa: number;
  /** Where the guest's process sees it. */
  readonly host: number;
  /** A multiple of the page size. */
  readonly bytes: number;
}

export interface GuestRamOptions {
  /** The slots, in order, as (address, length); default 64 MiB at 0. Each a multiple of 4 KiB. */
  readonly slots?: readonly { readonly gpa: number; readonly bytes: number }[];
}

/** Enough for rings of 1024 and a few hundred packets of 64 KiB. */
const DEFAULT_BYTES = 64 * 2 ** 20;

export class GuestRam {
  /** The memfd, for a VMM to share with others. */
  readonly fd: number;
  readonly slots: readonly RamSlot[];
  readonly #host: number;
  readonly #bytes: number;
  readonly #allocators: readonly RunAllocator[];

  constructor(options: GuestRamOptions = {}) {
    let fileOffset = 0;
    this.slots = (options.slots ?? [{ gpa: 0, bytes: DEFAULT_BYTES }]).map(({ gpa, bytes }) => {
      const slot = { gpa, bytes, fileOffset };
      fileOffset += bytes;
      return slot;
    });
    this.#bytes = fileOffset;
    this.fd = createMemfd("bit33-guest", fileOffset);
    this.#host = mapShared(this.fd, 0, fileOffset);
    this.#allocators = this.slots.map(({ bytes }) => new RunAllocator(bytes / PAGE_BYTES));
    // As in a real machine, nothing of use lies at address 0: an address that was forgotten does not look like one.
    if (this.slots[0].gpa === 0) this.#allocators[0].take(1);
  }

  /** A block of at least `bytes`, in whole pages. Throws when the guest is out of memory: the caller sized it. */
  allocate(bytes: number): RamBlock {
    const pages = Math.ceil(bytes / PAGE_BYTES);
    // The last slot first, as Linux allocates from high memory down.
    for (let index = this.slots.length - 1; index >= 0; index--) {
      const first = this.#allocators[index].take(pages);
      if (first < 0) continue;
      const { gpa, fileOffset } = this.slots[index];
      return {
        gpa: gpa + first * PAGE_BYTES,
        host: this.#host + fileOffset + first * PAGE_BYTES,
        bytes: pages * PAGE_BYTES,
      };
    }
    throw new Error(`the guest has no ${roundUp(bytes, PAGE_BYTES)} contiguous bytes left`);
  }

  free(block: RamBlock): void {
    const index = this.#slotIndex(block.gpa);
    this.#allocators[index].give((block.gpa - this.slots[index].gpa) / PAGE_BYTES, block.bytes / PAGE_BYTES);
  }

  /** Where the guest's process sees a guest-physical address, or -1 if there is no memory. */
  hostOf(gpa: number): number {
    const index = this.#slotIndex(gpa);
    if (index < 0) return -1;
    return this.#host + this.slots[index].fileOffset + (gpa - this.slots[index].gpa);
  }

  /** A byte view over `bytes` of the guest's memory. */
  view(gpa: number, bytes: number): Uint8Array {
    const host = this.hostOf(gpa);
    if (host < 0 || this.hostOf(gpa + bytes - 1) !== host + bytes - 1)
      throw new Error(`0x${gpa.toString(16)} with ${bytes} bytes is not guest memory`);
    return new Uint8Array(view(host, bytes));
  }

  /** Lets go of the memory. Views over it read zeros from now on. */
  close(): void {
    park(this.#host, this.#bytes);
    closeSync(this.fd);
  }

  #slotIndex(gpa: number): number {
    return this.slots.findIndex((slot) => gpa >= slot.gpa && gpa < slot.gpa + slot.bytes);
  }
}
