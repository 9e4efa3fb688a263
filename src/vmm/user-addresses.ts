/**
 * Where the VMM pretends to have the guest's memory in its own address space: what it puts into memory tables, ring
 * addresses and UPDATEs. Nowhere near the guest-physical addresses, as in a real VMM, so that a mix-up shows.
 */
import type { RamSlot } from "../guest/guest-ram.js";
import type { SharedRegion } from "../vhost/front-end-session.js";

/** Like an mmap of QEMU's; each slot begins 1 GiB behind the end of the one before. */
const USER_BASE = 0x7e55_3fff_f000;
const GAP_BYTES = 2 ** 30;

interface PlacedSlot extends RamSlot {
  readonly user: number;
}

export class UserAddresses {
  readonly #slots: readonly PlacedSlot[];

  constructor(slots: readonly RamSlot[]) {
    let user = USER_BASE;
    this.#slots = slots.map((slot) => {
      const placed = { ...slot, user };
      user += slot.bytes + GAP_BYTES;
      return placed;
    });
  }

  /** The user address of a guest-physical range, or -1 if it is not memory. */
  ofGpa(gpa: number, bytes = 1): number {
    const slot = this.#slots.find(
      (candidate) => gpa >= candidate.gpa && gpa < candidate.gpa + candidate.bytes,
    );
    if (slot === undefined || gpa + bytes > slot.gpa + slot.bytes) return -1;
    return slot.user + (gpa - slot.gpa);
  }

  /** The memory table. */
  regions(fd: number): SharedRegion[] {
    return this.#slots.map(({ gpa, bytes, fileOffset, user }) => ({
      guestAddress: BigInt(gpa),
      userAddress: BigInt(user),
      size: BigInt(bytes),
      mmapOffset: BigInt(fileOffset),
      fd,
    }));
  }
}
