/**
 * A measuring driver's DMA behind a vIOMMU. `MappedDma`: everything is mapped once and stays. `StrictDma`: as a Linux
 * guest in strict mode, every buffer gets I/O virtual pages of its own each time that it is given to the device, and
 * they are taken back when it returns. Must not know rings, nor how a message reaches the device (translation-front-end.ts).
 */
import { GuestRam } from "../src/guest/guest-ram.js";
import { type IoPage, IoPageTable, type IoTranslations } from "../src/guest/io-page-table.js";
import { IovaAllocator, TOP_OF_32_BITS } from "../src/guest/iova-allocator.js";
import { PAGE_BYTES } from "../src/linux/mapping.js";
import { Access } from "../src/memory/address.js";
import { IOTLB_ENTRIES } from "../src/memory/iotlb.js";
import { builtinVmm } from "../src/profiles/builtin.js";
import { F, mask } from "../src/virtio/index.js";
import { machineFor } from "../src/vmm/virtual-machine.js";
import { type Buffers, type DriverDma, type Need, setAddress } from "./driver-dma.js";
import { Arena } from "./guest-arena.js";
import { TranslatingFrontEnd } from "./translation-front-end.js";

const TOP = TOP_OF_32_BITS * PAGE_BYTES;

abstract class TranslatedDma implements DriverDma {
  readonly features = mask(F.ACCESS_PLATFORM);
  readonly arena: Arena;
  readonly frontEnd: TranslatingFrontEnd;
  abstract readonly mapsEachTime: boolean;

  constructor(socketPath: string, need: Need, pieces: number, isPipelining: boolean) {
    const ram = new GuestRam();
    this.arena = new Arena(ram, need.bytes, need.wholeBytes, pieces);
    const translations: IoTranslations = { lookup: (iova) => this.lookup(iova) };
    this.frontEnd = new TranslatingFrontEnd({
      socketPath,
      profile: builtinVmm("qemu-7.2"),
      machine: machineFor("viommu"),
      ram,
      // What the guest unmaps is told to the front-end directly.
      viommu: { translations, onInvalidate: () => {} },
      translations,
      isPipelining,
    });
  }

  protected abstract lookup(iova: bigint): IoPage | undefined;
  abstract map(buffers: Buffers, index: number, bytes: number): void;
  abstract unmap(buffers: Buffers, index: number, bytes: number): void;
  abstract settle(): void;
  protected abstract mapBeforehand(): void;

  /** The device has asked for its rings when it started; that is not part of what is measured. */
  started(): void {
    this.mapBeforehand();
    this.frontEnd.answer();
    this.frontEnd.takeTally();
  }

  /** The arena as a whole lies at the top of 32 bits, where Linux hands addresses out first. */
  busOf(offset: number): bigint {
    return BigInt(this.#addressOf(offset));
  }

  #addressOf(offset: number): number {
    return TOP - this.arena.bytes + offset;
  }

  protected setFixedAddress(buffers: Buffers, index: number): void {
    setAddress(buffers, index, this.#addressOf(buffers.offsetOf(index)));
  }

  /** The page of the arena that has this fixed address. */
  protected fixedPage(iova: bigint): IoPage | undefined {
    const offset = Number(iova) - (TOP - this.arena.bytes);
    if (offset < 0 || offset >= this.arena.bytes) return undefined;
    return { gpa: this.arena.gpaOf(offset - (offset % PAGE_BYTES)), access: Access.READ_WRITE };
  }

  get questionFd(): number {
    return this.frontEnd.session.channelFd;
  }

  serve(): void {
    this.frontEnd.answer();
  }
}

export class MappedDma extends TranslatedDma {
  readonly mapsEachTime = false;
  readonly #entries: number | undefined;

  /** `entries`: how many the device gets in all; undefined: one of 4 KiB for each page. */
  constructor(socketPath: string, need: Need, entries: number | undefined) {
    super(socketPath, need, entries ?? need.bytes / PAGE_BYTES, false);
    this.#entries = entries;
    if (this.#entryCount > IOTLB_ENTRIES)
      throw new Error(`${this.#entryCount} entries are more than the ${IOTLB_ENTRIES} that the device keeps`);
  }

  get #entryCount(): number {
    return this.#entries ?? this.arena.bytes / PAGE_BYTES;
  }

  protected lookup(iova: bigint): IoPage | undefined {
    return this.fixedPage(iova);
  }

  map(buffers: Buffers, index: number): void {
    this.setFixedAddress(buffers, index);
  }

  unmap(): void {}
  settle(): void {}

  protected mapBeforehand(): void {
    const { arena } = this;
    if (this.#entries === undefined) {
      for (let offset = 0; offset < arena.bytes; offset += PAGE_BYTES)
        this.frontEnd.map(Number(this.busOf(offset)), PAGE_BYTES, arena.gpaOf(offset));
      return;
    }
    for (const { offset, bytes, gpa } of arena.pieces)
      this.frontEnd.map(Number(this.busOf(offset)), bytes, gpa);
    // What no buffer is behind, on both sides of what is used, with a page between each two.
    const fillers = this.#entries - arena.pieces.length;
    for (let index = 0; index < fillers; index++) {
      const iova =
        index % 2 === 0 ? TOP + (index + 1) * PAGE_BYTES : TOP - arena.bytes - (index + 2) * PAGE_BYTES;
      this.frontEnd.map(iova, PAGE_BYTES, arena.gpaOf(0));
    }
  }
}

export class StrictDma extends TranslatedDma {
  readonly mapsEachTime = true;
  readonly #table = new IoPageTable();
  readonly #addresses: IovaAllocator;

  constructor(socketPath: string, need: Need, isPipelining: boolean) {
    super(socketPath, need, need.bytes / PAGE_BYTES, isPipelining);
    const pages = this.arena.bytes / PAGE_BYTES;
    this.#addresses = new IovaAllocator(TOP_OF_32_BITS - pages, 2 * pages);
  }

  /** Rings stay mapped, at their fixed addresses. */
  protected lookup(iova: bigint): IoPage | undefined {
    return this.#table.lookup(iova) ?? this.fixedPage(iova);
  }

  map(buffers: Buffers, index: number, bytes: number): void {
    const offset = buffers.offsetOf(index);
    const inPage = offset % PAGE_BYTES;
    const pages = Math.ceil((inPage + bytes) / PAGE_BYTES);
    const first = this.#addresses.take(pages);
    if (first < 0) throw new Error("the guest has no I/O virtual addresses left");
    for (let page = 0; page < pages; page++) {
      const gpa = this.arena.gpaOf(offset - inPage + page * PAGE_BYTES);
      this.#table.map(first + page, 1, gpa, buffers.access);
    }
    setAddress(buffers, index, first * PAGE_BYTES + inPage);
  }

  unmap(buffers: Buffers, index: number, bytes: number): void {
    const address = buffers.high[index] * 2 ** 32 + buffers.low[index];
    const first = Math.floor(address / PAGE_BYTES);
    const pages = Math.ceil(((address % PAGE_BYTES) + bytes) / PAGE_BYTES);
    this.#table.unmap(first, pages);
    this.frontEnd.invalidate(first * PAGE_BYTES, pages * PAGE_BYTES);
    // Whoever puts answers off maps nothing before `settle`.
    this.#addresses.give(first, pages);
  }

  settle(): void {
    this.frontEnd.settle();
  }

  protected mapBeforehand(): void {}
}
