/**
 * What every player of a VMM profile is, whichever transport it drives: the steps of a device's life as a VMM goes
 * through them, the words that were negotiated, and what it reports while it does. Must not know the device.
 */
import type { GuestRam } from "../guest/guest-ram.js";
import type { Viommu } from "../guest/platform.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import type { RingAddresses } from "../vhost/ring-state.js";
import type { MachineOptions } from "./negotiation.js";

/** One queue of the guest's driver, as a VMM gets to know it. */
export interface GuestQueue {
  readonly size: number;
  /** What the driver wrote into the queue's address registers. */
  readonly addresses: RingAddresses;
  readonly kickFd: number;
  readonly callFd: number;
  /** Where a running ring is to be taken up; 0, a new driver's, if it is left out. */
  readonly base?: number;
}

/** Why a device was not started, and who said so. */
export class StartRefused extends Error {
  override readonly name = "StartRefused";

  constructor(
    readonly by: "guest" | "front-end" | "back-end",
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** Every word of the negotiation, in the order in which they came about. */
export interface NegotiationRecord {
  offeredByBackend: bigint;
  offeredToGuest: bigint;
  acknowledgedByGuest: bigint;
  sentToBackend: bigint;
  protocolFeatures: bigint;
  /** The front-end translates: ring addresses are I/O virtual, and it serves the IOTLB. */
  translates: boolean;
}

/** Something that a player did or met, as it happened: what a story is told from. */
export type VmmEvent =
  /** It knows what the device offers. */
  | { readonly kind: "device-offer"; readonly features: bigint }
  /** It decided what the guest is offered; `because` is one clause on bit 33. */
  | { readonly kind: "guest-offer"; readonly features: bigint; readonly because: string }
  /** It decided what the device is told of the guest's acknowledgement; `because` is one clause on bit 33. */
  | {
      readonly kind: "passed-on";
      readonly acknowledged: bigint;
      readonly sent: bigint;
      readonly because: string;
    }
  /** A message to the device, or the answer to a question of its, begins; what comes before its own event is within it. */
  | { readonly kind: "begins" }
  /** A message or request to the device, on one line, with its result once there is one. */
  | { readonly kind: "message"; readonly text: string; readonly result?: string }
  /** The device asked something: a MISS. */
  | { readonly kind: "question"; readonly text: string; readonly answer: string }
  /** It will not start the device. */
  | { readonly kind: "refused"; readonly text: string }
  /** Its process would be gone now. */
  | { readonly kind: "died"; readonly text: string };

export type VmmObserver = (event: VmmEvent) => void;

/** What every player is made of. */
export interface PlayerParts {
  readonly profile: VmmProfile;
  readonly machine: MachineOptions;
  readonly ram: GuestRam;
  /** The guest's vIOMMU; it stands in front of the device only if `machine.viommu`. */
  readonly viommu: Viommu | undefined;
  readonly observer?: VmmObserver | undefined;
}

export interface VmmPlayer {
  readonly negotiation: NegotiationRecord;
  /** What went wrong after the start, or ended the VMM's process; the device is dead then. */
  readonly failure: Error | undefined;
  /** The VMM's process would be gone: it does not survive what it met. */
  readonly died: boolean;

  /** Everything before the guest boots. Returns the features that the guest is offered. Throws StartRefused. */
  initialize(): bigint;
  /** The guest's context id, from the device's configuration space. Throws StartRefused. */
  readCid(): number;
  /**
   * DRIVER_OK: tells the device of the features, the memory and the rings, and starts them. Throws StartRefused, with
   * the error or errno of the request that failed in its message.
   */
  start(acknowledged: bigint, queues: readonly GuestQueue[]): void;
  /** Serves what the device has asked meanwhile (a MISS) and returns how much that was. Never throws. */
  serve(): number;
  /** Stops the rings. Returns their positions. */
  stop(): number[];
  /** Lets go of the device and of every descriptor of its own. */
  close(): void;
}
