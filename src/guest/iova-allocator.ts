/**
 * Hands out I/O virtual pages as Linux does: from the top down, and a freed range again to the next request of its
 * size. Reusing at once is what finds a device that goes on using an old translation.
 *
 * Page numbers, not addresses: those of the topmost pages of the 64-bit space are exact as numbers.
 */

/** Linux hands out addresses below 4 GiB first (drivers/iommu/dma-iommu.c), so vhost sees 0xfffff000 and down. */
export const TOP_OF_32_BITS = 2 ** 32 / 4096;
/** The top of the address space: the last byte of the last page is 2^64 - 1. */
export const TOP_OF_64_BITS = 2 ** 64 / 4096;

export class IovaAllocator {
  #next: number;
  readonly #lowest: number;
  /** Freed ranges by their length in pages, the latest last. */
  readonly #freed: number[][] = [];

  /** Hands out `spanPages` pages below page `topPage`. */
  constructor(topPage: number, spanPages: number) {
    this.#next = topPage;
    this.#lowest = topPage - spanPages;
  }

  /** The first page of a range of `pages`, or -1. */
  take(pages: number): number {
    const reused = this.#freed[pages]?.pop();
    if (reused !== undefined) return reused;
    if (this.#next - pages < this.#lowest) return this.#splitLarger(pages);
    this.#next -= pages;
    return this.#next;
  }

  give(firstPage: number, pages: number): void {
    const freed = this.#freed[pages];
    if (freed === undefined) this.#freed[pages] = [firstPage];
    else freed.push(firstPage);
  }

  #splitLarger(pages: number): number {
    for (let size = pages + 1; size < this.#freed.length; size++) {
      const found = this.#freed[size]?.pop();
      if (found === undefined) continue;
      this.give(found + pages, size - pages);
      return found;
    }
    return -1;
  }
}
