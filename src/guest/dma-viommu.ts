/**
 * DMA behind a vIOMMU: every mapping gets I/O virtual pages of its own, with the permission that it needs and no more.
 *
 * Unmapping, as Linux does it: `strict` takes the pages out of the table, has the IOTLBs invalidated, and only then
 * lets the addresses be used again. `lazy` takes them out of the table, collects them, and invalidates everything at
 * once now and then; until then nobody gets the addresses again, and a device may still hold the old translation.
 */
import { PAGE_BYTES, view } from "../linux/mapping.js";
import { type CoherentMemory, type DmaBuffer, type DmaMapper, setBusAddress } from "./dma.js";
import type { GuestRam, RamBlock } from "./guest-ram.js";
import { IoPageTable, type IotlbInvalidator } from "./io-page-table.js";
import { IovaAllocator, TOP_OF_32_BITS, TOP_OF_64_BITS } from "./iova-allocator.js";

export interface ViommuOptions {
  /** Default "strict". */
  readonly unmapping?: "strict" | "lazy";
  /** Hand out the topmost addresses of 64 bits instead of those below 4 GiB. Default false. */
  readonly topOf64Bits?: boolean;
  /** How many addresses there are, in pages: few make reuse frequent. Default 2^19 (2 GiB). */
  readonly spanPages?: number;
}

/** How many unmapped ranges `lazy` collects (Linux: IOVA_DEFAULT_FQ_SIZE). */
const FLUSH_QUEUE_LENGTH = 256;

export class ViommuMapper implements DmaMapper {
  readonly kind = "viommu";
  /** What the vIOMMU reads. */
  readonly table = new IoPageTable();
  /** Set by whoever plays the vIOMMU. */
  onInvalidate: IotlbInvalidator = () => {};
  /** How many mappings were made, and how many are. */
  mapped = 0;
  live = 0;

  readonly #ram: GuestRam;
  readonly #addresses: IovaAllocator;
  readonly #lazy: boolean;
  readonly #flushQueue: { firstPage: number; pages: number }[] = [];
  readonly #coherent = new Map<CoherentMemory, { block: RamBlock; firstPage: number }>();

  constructor(ram: GuestRam, options: ViommuOptions = {}) {
    this.#ram = ram;
    this.#lazy = options.unmapping === "lazy";
    this.#addresses = new IovaAllocator(
      options.topOf64Bits === true ? TOP_OF_64_BITS : TOP_OF_32_BITS,
      options.spanPages ?? 2 ** 19,
    );
  }

  allocateCoherent(bytes: number): CoherentMemory {
    const block = this.#ram.allocate(bytes);
    new Uint8Array(view(block.host, block.bytes)).fill(0);
    const firstPage = this.#take(block.bytes / PAGE_BYTES);
    if (firstPage < 0) throw new Error("the guest has no I/O addresses left");
    this.table.map(firstPage, block.bytes / PAGE_BYTES, block.gpa, 3);
    const memory = { host: block.host, bus: BigInt(firstPage) << 12n, gpa: block.gpa, bytes: block.bytes };
    this.#coherent.set(memory, { block, firstPage });
    return memory;
  }

  freeCoherent(memory: CoherentMemory): void {
    const found = this.#coherent.get(memory);
    if (found === undefined) throw new Error("not memory of this mapper");
    this.#coherent.delete(memory);
    this.#unmapPages(found.firstPage, memory.bytes / PAGE_BYTES);
    this.#ram.free(found.block);
  }

  map(buffer: DmaBuffer): boolean {
    const offset = buffer.gpa % PAGE_BYTES;
    const pages = Math.ceil((offset + buffer.bytes) / PAGE_BYTES);
    const firstPage = this.#take(pages);
    if (firstPage < 0) return false;
    this.table.map(firstPage, pages, buffer.gpa - offset, buffer.access);
    this.mapped++;
    this.live++;
    // A page number has up to 52 bits, so the address is put together from halves.
    buffer.low = ((firstPage % 2 ** 20) * PAGE_BYTES + offset) >>> 0;
    buffer.high = Math.floor(firstPage / 2 ** 20);
    return true;
  }

  unmap(buffer: DmaBuffer): void {
    const firstPage = buffer.high * 2 ** 20 + Math.floor(buffer.low / PAGE_BYTES);
    const pages = Math.ceil(((buffer.low % PAGE_BYTES) + buffer.bytes) / PAGE_BYTES);
    this.live--;
    this.#unmapPages(firstPage, pages);
    setBusAddress(buffer, 0);
  }

  /** Ends what `lazy` has put off. Linux does it when the queue is full, and every 10 ms. */
  flush(): void {
    if (this.#flushQueue.length === 0) return;
    // Everything, as intel-iommu's domain-wide flush: two ranges, so that none has a length of 2^64.
    this.onInvalidate(0n, 1n << 63n, "everything");
    this.onInvalidate(1n << 63n, 1n << 63n, "everything");
    for (const { firstPage, pages } of this.#flushQueue.splice(0)) this.#addresses.give(firstPage, pages);
  }

  assertReachable(low: number, high: number, bytes: number): void {
    const firstPage = high * 2 ** 20 + Math.floor(low / PAGE_BYTES);
    const pages = Math.ceil(((low % PAGE_BYTES) + bytes) / PAGE_BYTES);
    for (let page = firstPage; page < firstPage + pages; page++) {
      if (!this.table.isMapped(page)) throw new Error(`I/O page 0x${page.toString(16)} is not mapped`);
    }
  }

  #take(pages: number): number {
    const firstPage = this.#addresses.take(pages);
    if (firstPage >= 0 || this.#flushQueue.length === 0) return firstPage;
    this.flush();
    return this.#addresses.take(pages);
  }

  #unmapPages(firstPage: number, pages: number): void {
    this.table.unmap(firstPage, pages);
    if (this.#lazy) {
      this.#flushQueue.push({ firstPage, pages });
      if (this.#flushQueue.length >= FLUSH_QUEUE_LENGTH) this.flush();
      return;
    }
    this.onInvalidate(BigInt(firstPage) << 12n, BigInt(pages * PAGE_BYTES), "pages");
    this.#addresses.give(firstPage, pages);
  }
}
