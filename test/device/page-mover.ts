/** For tests of this folder: takes pages away from under a running transfer, behind a vIOMMU, and poisons what is left behind. */
import assert from "node:assert/strict";
import type { DmaBuffer } from "../../src/guest/dma.js";
import { ViommuMapper } from "../../src/guest/dma-viommu.js";
import type { RamBlock } from "../../src/guest/guest-ram.js";
import type { Access } from "../../src/memory/address.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { noise } from "./rig.js";

const PAGE = 4096;
export const POISON = 0xee;

/** Bytes of which none is the poison. */
export function clean(bytes: number): Buffer {
  const data = noise(bytes);
  for (let i = 0; i < bytes; i++) if (data[i] === POISON) data[i] = 0;
  return data;
}

/** Keeps account of what the driver has mapped. */
export function watchMappings(
  machine: VirtualMachine,
  unmapped: (buffer: DmaBuffer) => void,
): Set<DmaBuffer> {
  const { mapper } = machine.platform;
  const live = new Set<DmaBuffer>();
  const map = mapper.map.bind(mapper);
  const unmap = mapper.unmap.bind(mapper);
  mapper.map = (buffer) => {
    const isMapped = map(buffer);
    if (isMapped) live.add(buffer);
    return isMapped;
  };
  mapper.unmap = (buffer) => {
    live.delete(buffer);
    unmap(buffer);
    unmapped(buffer);
  };
  return live;
}

/** Moves pages of mapped buffers to other memory, as an operating system may, with the device looking. */
export class PageMover {
  moved = 0;
  readonly #machine: VirtualMachine;
  readonly #table: ViommuMapper["table"];
  readonly #live: ReadonlySet<DmaBuffer>;
  /** Pages that were left behind, poisoned, and where their content is now. */
  readonly #left = new Map<number, RamBlock>();

  constructor(machine: VirtualMachine) {
    const { mapper } = machine.platform;
    assert.ok(mapper instanceof ViommuMapper);
    this.#machine = machine;
    this.#table = mapper.table;
    this.#live = watchMappings(machine, (buffer) => this.#bringHome(homeOf(buffer)));
  }

  /** Moves the first pages of up to `count` large buffers that the device may access so. */
  moveSome(count: number, access: Access): void {
    let left = count;
    for (const buffer of this.#live) {
      // Small ones share their pages with others, which the driver may be writing.
      if (buffer.access !== access || buffer.bytes < 2048 || this.#left.has(homeOf(buffer))) continue;
      this.#move(homeOf(buffer));
      if (--left === 0) return;
    }
  }

  #move(home: number): void {
    const { ram } = this.#machine.platform;
    const { iotlb } = this.#machine.frontEnd;
    const pages = this.#ioPagesOf(home);
    for (const { page } of pages) {
      this.#table.unmap(page, 1);
      iotlb?.invalidate(BigInt(page) << 12n, BigInt(PAGE));
    }
    // From here on the device does not touch the page.
    const elsewhere = ram.allocate(PAGE);
    ram.view(elsewhere.gpa, PAGE).set(ram.view(home, PAGE));
    ram.view(home, PAGE).fill(POISON);
    this.#left.set(home, elsewhere);
    for (const { page, access } of pages) {
      this.#table.map(page, 1, elsewhere.gpa, access);
      // A question that came in between found nothing mapped and is not asked again soon.
      iotlb?.miss({ iova: BigInt(page) << 12n, perm: access });
    }
    this.moved++;
  }

  /** Under which I/O pages the device knows a page of memory: header and payload are mapped apart. */
  #ioPagesOf(home: number): { page: number; access: Access }[] {
    const found: { page: number; access: Access }[] = [];
    for (const buffer of this.#live) {
      const index = (home - homeOf(buffer)) / PAGE;
      if (index < 0 || home >= buffer.gpa + buffer.bytes) continue;
      const firstPage = buffer.high * 2 ** 20 + Math.floor(buffer.low / PAGE);
      found.push({ page: firstPage + index, access: buffer.access });
    }
    return found;
  }

  /** The driver has a buffer back: its content returns to where the driver expects it. */
  #bringHome(home: number): void {
    const away = this.#left.get(home);
    if (away === undefined) return;
    this.assertUntouched();
    const { ram } = this.#machine.platform;
    ram.view(home, PAGE).set(ram.view(away.gpa, PAGE));
    ram.free(away);
    this.#left.delete(home);
  }

  /** Nothing was written to any page since it was taken away. */
  assertUntouched(): void {
    for (const home of this.#left.keys()) {
      const page = this.#machine.platform.ram.view(home, PAGE);
      assert.ok(
        page.every((byte) => byte === POISON),
        `page 0x${home.toString(16)} was written to`,
      );
    }
  }
}

function homeOf({ gpa }: DmaBuffer): number {
  return gpa - (gpa % PAGE);
}
