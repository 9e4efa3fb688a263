/**
 * A VMM's side of vhost, as data: what it offers its guest, what it passes on, masks or adds, in which order it calls,
 * which addresses it puts into the rings, whether it serves an IOTLB. `src/vmm/` plays it.
 */
import type { ProfileHead, Transport } from "./head.js";

/** Who decides whether the guest is offered bit 33. */
export type OfferOfBit33 =
  /** The option of the VMM's user, whatever the device says (QEMU `iommu_platform=on`). */
  | "by-option"
  /** Memory is protected, whatever the device says. */
  | "if-protected"
  /** Memory is protected, and the device offers it. */
  | "if-protected-and-offered"
  /** The device. */
  | "as-offered"
  | "always"
  | "never";

/** What becomes of bit 33 that the guest acknowledged, on its way to the device. */
export type PassingOfBit33 =
  /** Passed on, whether the device offered it or not. */
  | "always"
  /** Passed on if the device offered it. */
  | "if-offered"
  /** Passed on behind a vIOMMU (offered by the device or not), masked otherwise. */
  | "behind-viommu"
  | "never";

/** One kind of message or request, in the order of the start. A nested list stands for "each of these, queue by queue". */
export const SETUP_STEPS = [
  /** SET_FEATURES. */
  "features",
  /** Kernel: VHOST_SET_BACKEND_FEATURES. */
  "backend-features",
  /** SET_STATUS with FEATURES_OK, where STATUS was negotiated. */
  "status",
  /** SET_MEM_TABLE, or ADD_MEM_REG for each slot; see `memory`. */
  "memory",
  /** Kernel: VHOST_VSOCK_SET_GUEST_CID. */
  "cid",
  /** SET_BACKEND_REQ_FD, where it comes only now. */
  "channel",
  /** IOTLB UPDATEs for the used rings, if the VMM translates. */
  "used-rings",
  /** Kernel: VHOST_VSOCK_SET_RUNNING. */
  "running",
] as const;
export const RING_STEPS = ["num", "base", "addr", "kick", "call", "err", "enable"] as const;
export type SetupStep = (typeof SETUP_STEPS)[number];
export type RingStep = (typeof RING_STEPS)[number];
export type Step = SetupStep | RingStep;
/** A single step, or ring steps that are done for one queue after the other. */
export type OrderEntry = SetupStep | readonly RingStep[];

/** What has to hold for a refusal; all of a list. */
export const CONDITIONS = [
  "viommu",
  "iommu-platform",
  "protected-memory",
  "guest-acknowledged-33",
  "device-offers-33",
  "device-lacks-33",
  "device-lacks-config",
  "device-lacks-mq",
  "device-lacks-memory-slots",
  "device-lacks-reply-ack",
  "device-lacks-backend-req",
  "device-lacks-protocol-features",
  /** The bit that `iotlb.enables` names. */
  "device-lacks-iotlb-bit",
] as const;
export type Condition = (typeof CONDITIONS)[number];

/** Something that the VMM does not do: it says so and does not start the device. */
export interface Refusal {
  /** All of these hold. */
  readonly when: readonly Condition[];
  /** In the VMM's words, as its user would see them. */
  readonly says: string;
  /** Before the guest boots, or once its driver is ready. */
  readonly at: "initialization" | "start";
}

export interface VmmProfile extends ProfileHead {
  readonly kind: "vmm";
  readonly transport: Transport;
  /** What its user can configure; a guest that needs more does not apply. */
  readonly machine: { readonly viommu: boolean; readonly protectedMemory: boolean };
  readonly offer: {
    /** Bits that the guest gets if the device has them; 30 and 33 apart. */
    readonly passed: bigint;
    /** Bits that the guest gets whatever the device says. */
    readonly own: bigint;
    readonly bit33: OfferOfBit33;
  };
  readonly acknowledge: {
    /** What the guest acknowledged is cut down to what the device offered, bit 33 apart. */
    readonly maskedByDevice: boolean;
    /** Bits that the device is told whatever the guest said. */
    readonly adds: bigint;
    /** Bits that the device is never told. */
    readonly masks: bigint;
    readonly bit33: PassingOfBit33;
  };
  /** When VHOST_GET_FEATURES is asked: the guest can be given only what is known by then. */
  readonly asksDevice: "before-guest" | "after-guest";
  /** vhost-user protocol features that it takes if they are offered. */
  readonly protocolFeatures: bigint;
  /** Vhost backend features that it takes if they are offered (kernel). */
  readonly backendFeatures: bigint;
  /** When the back-end gets a channel of its own, where BACKEND_REQ was negotiated. */
  readonly backendChannel: "never" | "at-initialization" | "in-order";
  /** The calls that start the device. */
  readonly order: readonly OrderEntry[];
  /** How many of the three queues the device gets; the event queue is the last. */
  readonly queues: 2 | 3;
  /** Ring steps that are done before the guest boots, for each queue, with eventfds of the VMM's own. */
  readonly earlyRings: readonly RingStep[];
  /**
   * Vhost-user: steps whose messages ask for an acknowledgement, where REPLY_ACK was negotiated. IOTLB messages have an
   * answer anyway.
   */
  readonly needReply: readonly Step[];
  /** Vhost-user: how it shares memory; slots only where CONFIGURE_MEM_SLOTS was negotiated. */
  readonly memory: "slots" | "table";
  /** Vhost-user: sends RESET_DEVICE before the guest boots and after the stop, where RESET_DEVICE was negotiated. */
  readonly resetsDevice: boolean;
  /** The `flags` of GET_CONFIG. */
  readonly configFlags: 0 | 1;
  readonly iotlb: {
    /** Translates: puts the driver's addresses into the rings as they are, answers a MISS, sends INVALIDATE. */
    readonly serves: boolean;
    /** When it translates, if it does at all: it has a vIOMMU and `iommuPlatform`, or `iommuPlatform` is enough. */
    readonly translates: "behind-viommu" | "with-iommu-platform";
    /** How it tells the device to translate, beside bit 33. */
    readonly enables: "nothing" | "own-bit" | "explicit-protocol-feature";
    /** The number of that bit: a feature bit for `own-bit`, a protocol feature for the other. */
    readonly enablesBit: number | undefined;
    /** What of the guest's unmapping reaches the device. */
    readonly invalidates: "always" | "strict-only" | "never";
    /** What becomes of the start where the step `used-rings` cannot map a ring in the device. */
    readonly unmappedUsedRing: "ignored" | "fails";
    /** What a MISS does to a VMM that serves none. */
    readonly unexpectedMiss: "ignored" | "refused" | "dies";
  };
  /** Ring addresses without translation: user addresses, or guest-physical where it does not convert them. */
  readonly ringAddresses: "user" | "guest-physical";
  readonly refuses: readonly Refusal[];
}
