/**
 * How a guest's DMA works, as one interface: what Linux calls the DMA API. A driver maps a buffer before it gives the
 * address to a device, and unmaps it once the device is done; what "map" does depends on the machine:
 *
 *   direct        no DMA API at all, or one that does nothing: the address is the guest-physical one
 *   passthrough   a vIOMMU whose domain is an identity (`iommu=pt`): the address is the guest-physical one as well,
 *                 but the device reaches it through the vIOMMU
 *   viommu        a vIOMMU: each mapping gets an I/O virtual address, and unmapping takes it away
 *   restricted    everything is private but one shared pool: mapping copies into the pool ("bounces")
 *   protected     as restricted, in a guest that refuses devices which would go around the pool
 *
 * The files dma-*.ts are those ways. Must not know virtqueues or devices.
 */
import type { Access } from "../memory/address.js";
import type { GuestDma } from "../profiles/guest-profile.js";

export const DMA_KINDS = [
  "direct",
  "passthrough",
  "viommu",
  "restricted",
  "protected",
] as const satisfies readonly GuestDma[];
export type DmaKind = GuestDma;

/** A buffer of the guest that a device is to access, and, while it is mapped, the address to tell the device. */
export class DmaBuffer {
  /** The address for the device: `high * 2^32 + low`. Meaningful while mapped. */
  low = 0;
  high = 0;

  constructor(
    public gpa: number,
    /** Where the guest's process sees it. */
    public host: number,
    public bytes: number,
    /** What the device may do: read what the driver sends, write what it receives. */
    readonly access: Access,
  ) {}

  get busAddress(): bigint {
    return (BigInt(this.high) << 32n) | BigInt(this.low);
  }
}

/** Memory that both sides use for as long as the driver runs: rings. */
export interface CoherentMemory {
  readonly host: number;
  /** The address for the device. */
  readonly bus: bigint;
  /** The guest-physical address, which a driver has no use for: for whoever watches it. */
  readonly gpa: number;
  readonly bytes: number;
}

export interface DmaMapper {
  readonly kind: DmaKind;

  /** Zeroed memory for rings, aligned to a page for the device. */
  allocateCoherent(bytes: number): CoherentMemory;
  freeCoherent(memory: CoherentMemory): void;

  /** Sets the buffer's bus address. False: out of addresses or pool; try again after an `unmap`. */
  map(buffer: DmaBuffer): boolean;

  /** Ends a mapping. What the device wrote is in the buffer afterwards, and the address is void. */
  unmap(buffer: DmaBuffer): void;

  /** Throws if the device must not be told of this range: a driver that does is broken. */
  assertReachable(low: number, high: number, bytes: number): void;
}

/** Splits an address into the halves in which rings hold it. */
export function setBusAddress(buffer: DmaBuffer, address: number): void {
  buffer.low = address >>> 0;
  buffer.high = Math.floor(address / 2 ** 32);
}
