/**
 * Restricted DMA, as in a pKVM guest: one pool is shared with the host, all other memory is private. Mapping a buffer
 * copies it into the pool and gives out the copy's address; unmapping copies back what the device wrote. Addresses
 * are guest-physical ones inside the pool: nothing is translated, only confined.
 *
 * Linux: kernel/dma/swiotlb.c with `force_bounce` and `for_alloc`, slots of 2 KiB.
 */
import { copyMemory, PAGE_BYTES, view } from "../linux/mapping.js";
import { Access } from "../memory/address.js";
import { type CoherentMemory, type DmaBuffer, type DmaMapper, setBusAddress } from "./dma.js";
import type { GuestRam, RamBlock } from "./guest-ram.js";
import { RunAllocator } from "./run-allocator.js";

/** IO_TLB_SIZE. */
const SLOT_BYTES = 2048;
const SLOTS_PER_PAGE = PAGE_BYTES / SLOT_BYTES;
const DEFAULT_POOL_BYTES = 8 * 2 ** 20;

export interface PoolOptions {
  /** Default 8 MiB. */
  readonly poolBytes?: number;
}

export class PoolMapper implements DmaMapper {
  /** The one part of memory that the device may see. */
  readonly pool: RamBlock;
  readonly #slots: RunAllocator;
  /** What the pool lent out: only that may be told to the device. Slots by first slot, with their number. */
  readonly #lent = new Map<number, number>();

  constructor(
    ram: GuestRam,
    readonly kind: "restricted" | "protected",
    options: PoolOptions = {},
  ) {
    this.pool = ram.allocate(options.poolBytes ?? DEFAULT_POOL_BYTES);
    this.#slots = new RunAllocator(this.pool.bytes / SLOT_BYTES);
  }

  allocateCoherent(bytes: number): CoherentMemory {
    const first = this.#take(bytes, SLOTS_PER_PAGE);
    if (first < 0) throw new Error(`the shared pool has no ${bytes} contiguous bytes left`);
    const host = this.pool.host + first * SLOT_BYTES;
    new Uint8Array(view(host, bytes)).fill(0);
    const gpa = this.pool.gpa + first * SLOT_BYTES;
    return { host, bus: BigInt(gpa), gpa, bytes };
  }

  freeCoherent(memory: CoherentMemory): void {
    this.#give((memory.gpa - this.pool.gpa) / SLOT_BYTES);
  }

  map(buffer: DmaBuffer): boolean {
    const first = this.#take(buffer.bytes, 1);
    if (first < 0) return false;
    // The whole buffer, even one that the device is to write: what it leaves out must not show old pool content.
    copyMemory(this.pool.host + first * SLOT_BYTES, buffer.host, buffer.bytes);
    setBusAddress(buffer, this.pool.gpa + first * SLOT_BYTES);
    return true;
  }

  unmap(buffer: DmaBuffer): void {
    const offset = buffer.high * 2 ** 32 + buffer.low - this.pool.gpa;
    if (buffer.access !== Access.READ) copyMemory(buffer.host, this.pool.host + offset, buffer.bytes);
    this.#give(offset / SLOT_BYTES);
    setBusAddress(buffer, 0);
  }

  assertReachable(low: number, high: number, bytes: number): void {
    const offset = high * 2 ** 32 + low - this.pool.gpa;
    if (offset < 0 || offset + bytes > this.pool.bytes)
      throw new Error(`0x${(this.pool.gpa + offset).toString(16)} lies outside of the shared pool`);
  }

  #take(bytes: number, alignment: number): number {
    const count = Math.max(1, Math.ceil(bytes / SLOT_BYTES));
    const first = this.#slots.take(count, alignment);
    if (first >= 0) this.#lent.set(first, count);
    return first;
  }

  #give(first: number): void {
    const count = this.#lent.get(first);
    if (count === undefined) throw new Error(`slot ${first} of the shared pool is not lent out`);
    this.#lent.delete(first);
    this.#slots.give(first, count);
  }
}
