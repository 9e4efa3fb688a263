/**
 * What a VMM's vhost-user front-end does where VMMs differ, as data. `front-end.ts` plays it. Must not know guests.
 *
 * The story of bit 33 in one table: what the front-end tells its guest, and what it then tells the back-end.
 */

/** The machine that the user of the VMM configured. */
export interface MachineOptions {
  /** QEMU's `iommu_platform=on`: the device is to be used through the DMA API. */
  readonly iommuPlatform: boolean;
  /** The guest's memory is private but for what it shares (pKVM, confidential VMs). */
  readonly protectedMemory: boolean;
  /** There is a vIOMMU in front of the device. */
  readonly viommu: boolean;
}

/** Who decides whether the guest is offered bit 33. */
export type OfferOfBit33 =
  /** The option `iommuPlatform`, whatever the back-end says. */
  | "by-option"
  /** Where memory is protected, and only if the back-end offers it. */
  | "if-protected-and-offered"
  /** The back-end. */
  | "as-offered"
  | "never";

/** What becomes of bit 33 that the guest acknowledged, on its way to the back-end. */
export type PassingOfBit33 =
  /** Passed behind a vIOMMU, masked otherwise. */
  "behind-viommu" | "always" | "never";

export interface FrontEndProfile {
  readonly name: string;
  /** One sentence for a table. */
  readonly summary: string;
  /** Program, version and file that it was read from. */
  readonly source: string;
  readonly offer: {
    /** Bits of the back-end that the guest gets to see; bits 30 and 33 apart. */
    readonly passed: bigint;
    readonly bit33: OfferOfBit33;
  };
  readonly acknowledge: { readonly bit33: PassingOfBit33 };
  /** The protocol features that it takes if they are offered. */
  readonly protocolFeatures: bigint;
  /** Gives the back-end a channel of its own, where BACKEND_REQ was negotiated. */
  readonly opensBackendChannel: boolean;
  /** Answers a MISS and sends INVALIDATE, behind a vIOMMU. Otherwise no IOTLB message ever leaves it. */
  readonly servesIotlb: boolean;
  /** How many of the three queues the back-end gets; the event queue is the last. */
  readonly queues: 2 | 3;
  /** Sends SET_STATUS where STATUS was negotiated. */
  readonly tellsStatus: boolean;
  /** The `flags` of GET_CONFIG. */
  readonly configFlags: 0 | 1;
  /** What the user of the VMM may not configure, with the reason; it then does not start. */
  readonly refuses?: (machine: MachineOptions, backendOffers33: boolean) => string | undefined;
}
