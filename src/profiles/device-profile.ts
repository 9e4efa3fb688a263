/**
 * A vsock device at its vhost interface, as data: what it offers, what it refuses, and what it takes for "translate
 * from now on". `src/peers/` plays other people's devices; this project's own plays itself.
 */
import type { ProfileHead, Transport } from "./head.js";

/** What turns the IOTLB on. */
export type IotlbSwitch =
  | "never"
  /** Bit 33 in SET_FEATURES (Linux since e13a6915a03f, DPDK). */
  | "bit-33"
  /** Bit 33, and the backend feature IOTLB_MSG_V2 (proposed in the thread of 2022). */
  | "bit-33-and-msg-v2"
  /** A feature bit of its own, `ownBit` (proposed). */
  | "own-bit"
  /** The first UPDATE or INVALIDATE; everything is reachable before (proposed). */
  | "first-message";

export interface ModelledDevice {
  readonly engine: "model";
  /** Virtio features offered, bit 30 not counted. */
  readonly features: bigint;
  readonly protocolFeatures: bigint;
  readonly backendFeatures: bigint;
  /**
   * SET_FEATURES with a bit that was not offered: an error, the end of the session (it then waits for the next
   * front-end), the end of its process, or taken as it is.
   */
  readonly unofferedFeatures: "refuses" | "leaves" | "exits" | "takes";
  /** Bits that never reach it: whoever stands in front masks them ("mask in the VMM"). */
  readonly frontEndMasks: bigint;
  readonly iotlb: {
    readonly enabledBy: IotlbSwitch;
    /** The number of the bit, for `own-bit`. */
    readonly ownBit: number | undefined;
    /** SET_FEATURES that turns translation on or off forgets the ring addresses (Linux 6.12). */
    readonly togglingClearsAddresses: boolean;
    /**
     * Once translation is on, SET_FEATURES without what enables it turns it off. Where it does not, the mappings stay
     * and addresses go on being looked up in them (Linux before the hardening of 6.12).
     */
    readonly turnsOffAgain: boolean;
    /** When ring areas have to be mapped: at the start, which fails otherwise (Linux), or when first used (DPDK). */
    readonly ringsNeeded: "at-start" | "when-used";
    /** Takes INVALIDATE seriously; a device that does not is broken. */
    readonly honoursInvalidate: boolean;
  };
}

/** This project's device. */
export interface OwnDevice {
  readonly engine: "bit33";
  /** The option `--iotlb`. */
  readonly iotlb: "off" | "on" | "auto" | "explicit";
  /** The option `--access-platform`: whether bit 33 is offered. */
  readonly accessPlatform: boolean;
}

export interface DeviceProfile extends ProfileHead {
  readonly kind: "device";
  /** How a VMM may reach it. */
  readonly transports: readonly Transport[];
  readonly behaviour: ModelledDevice | OwnDevice;
}
