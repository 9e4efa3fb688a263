/**
 * A vIOMMU's page table, kept as data: the guest's driver writes it, whoever plays the vIOMMU reads it to answer a
 * device's MISS. 4 KiB pages. Must not know how addresses are chosen.
 */
import type { Access } from "../memory/address.js";
import type { GuestRam } from "./guest-ram.js";

/** What one page of I/O virtual addresses leads to. */
export interface IoPage {
  /** Guest-physical address of the page. */
  readonly gpa: number;
  readonly access: Access;
}

/** What the vIOMMU looks up, whichever kind of domain the device is in. */
export interface IoTranslations {
  /** What the page that holds `iova` leads to, or undefined if it is not mapped. */
  lookup(iova: bigint): IoPage | undefined;
}

/**
 * Told of addresses that a device must not use any more; returns once it cannot. `reach`: the pages of one unmapping,
 * or everything that lazy unmapping has put off, told as the whole of the space.
 */
export type IotlbInvalidator = (iova: bigint, bytes: bigint, reach: "pages" | "everything") => void;

const PAGE_SHIFT = 12n;
const PAGE_BYTES = 4096;

/** A translated domain. */
export class IoPageTable implements IoTranslations {
  /** Page number to page number and access, packed into one number. */
  readonly #entries = new Map<number, number>();

  get mappedPages(): number {
    return this.#entries.size;
  }

  map(firstPage: number, pages: number, gpa: number, access: Access): void {
    const gpaPage = gpa / PAGE_BYTES;
    for (let i = 0; i < pages; i++) {
      if (this.#entries.has(firstPage + i))
        throw new Error(`I/O page 0x${(firstPage + i).toString(16)} is mapped already`);
      this.#entries.set(firstPage + i, (gpaPage + i) * 4 + access);
    }
  }

  unmap(firstPage: number, pages: number): void {
    for (let i = 0; i < pages; i++) {
      if (!this.#entries.delete(firstPage + i))
        throw new Error(`I/O page 0x${(firstPage + i).toString(16)} is not mapped`);
    }
  }

  isMapped(page: number): boolean {
    return this.#entries.has(page);
  }

  /** Whether some address leads to the page that holds `gpa`, for that access: what a device may reach just now. */
  reaches(gpa: number, access: Access): boolean {
    const gpaPage = Math.floor(gpa / PAGE_BYTES);
    for (const entry of this.#entries.values())
      if (Math.floor(entry / 4) === gpaPage && ((entry % 4) & access) === access) return true;
    return false;
  }

  lookup(iova: bigint): IoPage | undefined {
    const entry = this.#entries.get(Number(iova >> PAGE_SHIFT));
    if (entry === undefined) return undefined;
    return { gpa: Math.floor(entry / 4) * PAGE_BYTES, access: (entry % 4) as Access };
  }
}

/** The identity domain of `iommu=pt`: every page of memory, under its own address. */
export class IdentityDomain implements IoTranslations {
  readonly #ram: GuestRam;

  constructor(ram: GuestRam) {
    this.#ram = ram;
  }

  lookup(iova: bigint): IoPage | undefined {
    const gpa = Number((iova >> PAGE_SHIFT) << PAGE_SHIFT);
    return this.#ram.hostOf(gpa) < 0 ? undefined : { gpa, access: 3 };
  }
}
