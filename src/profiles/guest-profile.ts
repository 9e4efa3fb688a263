/** A guest, as data: how its DMA works, what it insists on, and the machine that it is at home on. */
import type { ProfileHead } from "./head.js";

/** What Linux's DMA API does for the device in this guest; `src/guest/dma.ts` explains each. */
export type GuestDma = "direct" | "passthrough" | "viommu" | "restricted" | "protected";

/** A driver that wants to reach what its vIOMMU withholds. */
export interface HostileDriver {
  /** Its ring addresses are user addresses of the VMM, which it has guessed; nothing is mapped in the vIOMMU. */
  readonly rings: "user-addresses";
  /** It skips the FEATURES_OK step of the negotiation, as a driver may try that fears to be refused. */
  readonly skipsFeaturesOk: boolean;
}

export interface GuestProfile extends ProfileHead {
  readonly kind: "guest";
  readonly dma: GuestDma;
  /** When an unmapped address is taken from the device: at once, or later and many together. Behind a vIOMMU only. */
  readonly unmapping: "strict" | "lazy";
  /** Bits that it knows and takes if they are offered; bit 33 among them or not. */
  readonly knows: bigint;
  /** Bits without which it refuses the device (Linux: `virtio_features_ok`). */
  readonly requires: bigint;
  /** What the user of the VMM has to configure for such a guest. */
  readonly machine: {
    /** The device is to be used through the DMA API (QEMU: `iommu_platform=on`). */
    readonly iommuPlatform: boolean;
    /** Memory is private but for what the guest shares (pKVM, confidential VMs). */
    readonly protectedMemory: boolean;
    /** There is a vIOMMU in front of the device. */
    readonly viommu: boolean;
  };
  readonly hostile?: HostileDriver;
}
