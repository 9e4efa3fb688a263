/**
 * DMA by guest-physical address: no DMA API (`direct`), or one that a vIOMMU's identity domain makes do nothing
 * (`passthrough`; the vIOMMU's tables for it are in `io-page-table.ts`).
 */
import { view } from "../linux/mapping.js";
import { type CoherentMemory, type DmaBuffer, type DmaMapper, setBusAddress } from "./dma.js";
import type { GuestRam, RamBlock } from "./guest-ram.js";

export class DirectMapper implements DmaMapper {
  readonly #ram: GuestRam;
  readonly #blocks = new Map<CoherentMemory, RamBlock>();

  constructor(
    ram: GuestRam,
    readonly kind: "direct" | "passthrough" = "direct",
  ) {
    this.#ram = ram;
  }

  allocateCoherent(bytes: number): CoherentMemory {
    const block = this.#ram.allocate(bytes);
    new Uint8Array(view(block.host, block.bytes)).fill(0);
    const memory = { host: block.host, bus: BigInt(block.gpa), gpa: block.gpa, bytes: block.bytes };
    this.#blocks.set(memory, block);
    return memory;
  }

  freeCoherent(memory: CoherentMemory): void {
    const block = this.#blocks.get(memory);
    if (block === undefined) throw new Error("not memory of this mapper");
    this.#blocks.delete(memory);
    this.#ram.free(block);
  }

  map(buffer: DmaBuffer): boolean {
    setBusAddress(buffer, buffer.gpa);
    return true;
  }

  unmap(): void {}

  assertReachable(low: number, high: number, bytes: number): void {
    const gpa = high * 2 ** 32 + low;
    if (this.#ram.hostOf(gpa) < 0 || this.#ram.hostOf(gpa + bytes - 1) < 0)
      throw new Error(`0x${gpa.toString(16)} with ${bytes} bytes is not guest memory`);
  }
}
