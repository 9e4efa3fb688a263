/**
 * The DMA of a driver that wants to reach what its vIOMMU withholds: it maps nothing. Its ring addresses are user
 * addresses of the VMM, which it has guessed (address spaces are randomised, but not secret from everybody); its
 * buffers are named by their guest-physical addresses. A device that takes the rings for untranslated ones reaches all
 * of the guest's memory.
 */
import { type CoherentMemory, type DmaBuffer, type DmaMapper, setBusAddress } from "./dma.js";
import { DirectMapper } from "./dma-direct.js";
import type { GuestRam } from "./guest-ram.js";

export class HostileMapper implements DmaMapper {
  readonly kind = "direct";
  readonly #direct: DirectMapper;
  /** What is told to the device, and the memory that it stands for. */
  readonly #behind = new Map<CoherentMemory, CoherentMemory>();

  constructor(
    ram: GuestRam,
    /** The VMM's user address of a guest-physical one. */
    private readonly userAddressOf: (gpa: number) => number,
  ) {
    this.#direct = new DirectMapper(ram);
  }

  allocateCoherent(bytes: number): CoherentMemory {
    const memory = this.#direct.allocateCoherent(bytes);
    const told = { ...memory, bus: BigInt(this.userAddressOf(memory.gpa)) };
    this.#behind.set(told, memory);
    return told;
  }

  freeCoherent(memory: CoherentMemory): void {
    const behind = this.#behind.get(memory);
    if (behind === undefined) throw new Error("not memory of this mapper");
    this.#behind.delete(memory);
    this.#direct.freeCoherent(behind);
  }

  map(buffer: DmaBuffer): boolean {
    setBusAddress(buffer, buffer.gpa);
    return true;
  }

  unmap(): void {}

  assertReachable(): void {}
}
