/**
 * What a device sees of any virtqueue, split or packed. The order of a burst:
 * `prepare`, then `pop` / `push` as often as there is something, then `publish`, then `needsNotification`; before
 * going to sleep `enableKicks`, and another round if it says so.
 */

import type { Outcome } from "../memory/address.js";
import type { AddressSpace } from "../memory/address-space.js";
import type { SegmentList } from "../memory/segments.js";
import type { Chain } from "./chain.js";
import type { QueueFailure } from "./failure.js";
import type { InflightRing } from "./inflight-ring.js";

/** What `pop` found. */
export const Pop = {
  /** The driver has made nothing more available. */
  EMPTY: 0,
  /** `chain` holds the next chain. */
  CHAIN: 1,
  /** A page is not mapped yet. Nothing was consumed; try again after the next UPDATE. */
  MISS: 2,
  /** The queue is broken, now or since earlier: `failure` says why. */
  BROKEN: 3,
} as const;
export type Pop = (typeof Pop)[keyof typeof Pop];

/** Reads host memory without a system call: finds the long-lived view that covers an address. */
export interface HostReader {
  /** Sets `data` and `offset` so that `data.getUint8(offset)` is the byte at `host`. The view may end soon after. */
  locate(host: number): void;
  readonly data: DataView;
  readonly offset: number;
}

/** What a split queue is set up from. Addresses are those of SET_VRING_ADDR, in `ringSpace`. */
export interface SplitQueueSetup {
  /** The queue's number, for messages. */
  readonly index: number;
  /** At most 32768; of a split queue a power of 2. */
  readonly size: number;
  readonly ringSpace: AddressSpace;
  /** Where descriptors point. */
  readonly bufferSpace: AddressSpace;
  /** Used for indirect tables only. */
  readonly hostReader: HostReader;
  readonly desc: bigint;
  readonly avail: bigint;
  readonly used: bigint;
  /** SET_VRING_BASE: the next avail index to look at. */
  readonly base: number;
  /** VIRTIO_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** VIRTIO_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
}

/** What a packed queue is set up from. */
export interface PackedQueueSetup extends Omit<SplitQueueSetup, "avail" | "used" | "base"> {
  /** The areas that SET_VRING_ADDR names `avail` and `used`: what each side wants to hear of. */
  readonly driverEvent: bigint;
  readonly deviceEvent: bigint;
  /** SET_VRING_BASE: the next descriptor to look at, and where the next used one goes, each with its wrap counter in bit 15. */
  readonly availPosition: number;
  readonly usedPosition: number;
}

/** Hears of each range of a ring's memory that the device has written: a migration's dirty log. */
export interface RingLog {
  /** `length` bytes from byte `offset` of the used ring (of a packed queue: of the area), which lies at `area`. */
  wrote(area: SegmentList, offset: number, length: number): void;
}

export interface DeviceQueue {
  readonly index: number;
  readonly size: number;

  /**
   * Makes the rings reachable, if they are not or may no longer be. Call it first in every burst. MISS: do nothing
   * with this queue until the next UPDATE. FAULT: broken, see `failure`.
   */
  prepare(): Outcome;

  /** Takes the next chain. On MISS every page of it known to be missing has been noted in its space. */
  pop(chain: Chain): Pop;

  /** Gives back the latest `count` popped chains, none of which was pushed; `pop` will find them again. */
  unpop(count: number): void;

  /** Returns a chain with `writtenBytes` in its writable part. The driver does not see it before `publish`. */
  push(head: number, writtenBytes: number): void;

  /** Shows the driver everything pushed so far. */
  publish(): void;

  /** Whether the driver wants to be told about what was published since the last call. Ask after `publish`. */
  needsNotification(): boolean;

  /** Asks the driver not to kick: the device is polling. A hint, kicks may still come. */
  disableKicks(): void;

  /** Asks for kicks. True: something became available meanwhile, for which no kick may come: poll again. */
  enableKicks(): boolean;

  /** How many chains wait. 0 also when the queue is broken or not prepared. */
  available(): number;

  /** What GET_VRING_BASE answers. Chains in flight count as taken: push or unpop them first, or they are lost. */
  readonly nextAvail: number;

  /** Of a packed queue: where the next used descriptor goes. Both have a wrap counter in bit 15. */
  readonly nextUsed?: number | undefined;

  /** Split rings: where it is noted what is in flight, for whoever takes the ring up after us. Set before the first `prepare`. */
  inflight?: InflightRing | undefined;

  /** The chain that was popped last had been taken by a back-end before us, which has not returned it. */
  readonly replayed?: boolean;

  /** Set while writes to the ring are logged. May change between bursts. */
  ringLog?: RingLog | undefined;

  /** Set once the queue is broken, for good. */
  readonly failure: QueueFailure | undefined;
}
