/**
 * Makes the queue of a ring: split or packed, as the acknowledged features say, from where its base says. What a base
 * means is in wire/vring-base.ts. Must not know sessions.
 */
import type { AddressSpace } from "../memory/address-space.js";
import { F, has } from "../virtio/index.js";
import type { DeviceQueue, HostReader } from "../virtqueue/device-queue.js";
import { PackedDeviceQueue } from "../virtqueue/packed-device-queue.js";
import { SplitDeviceQueue } from "../virtqueue/split-device-queue.js";
import type { RingAddresses, RingState } from "./ring-state.js";
import { decodePackedBase, decodeSplitBase, encodePackedBase, FIRST_PACKED_BASE } from "./wire/index.js";

/** What a ring's addresses and its descriptors' addresses are looked up in. */
export interface RingSpaces {
  readonly ring: AddressSpace;
  readonly buffer: AddressSpace;
}

/** The queue behind a ring, of which everything has been set. */
export function makeQueue(
  { index, size, base }: RingState,
  { desc, avail, used }: RingAddresses,
  spaces: RingSpaces,
  hostReader: HostReader,
  features: bigint,
): DeviceQueue {
  const shared = {
    index,
    size,
    ringSpace: spaces.ring,
    bufferSpace: spaces.buffer,
    hostReader,
    desc,
    eventIdx: has(features, F.EVENT_IDX),
    indirect: has(features, F.INDIRECT_DESC),
  };
  if (!has(features, F.RING_PACKED))
    return new SplitDeviceQueue({ ...shared, avail, used, base: decodeSplitBase(base) });
  const positions = decodePackedBase(base);
  return new PackedDeviceQueue({ ...shared, driverEvent: avail, deviceEvent: used, ...positions });
}

/**
 * The base that a front-end means which sends `num` for a packed ring. Several hand RING_PACKED on to the guest and know
 * the positions of split rings only: a driver that begins is 0 to them, which says of a packed ring that it stands at
 * the start of a second lap. It is taken for that only from where we said it: a ring stops there once in many times.
 */
export function packedBaseOf({ everRan, base }: RingState, num: number): number {
  return num === 0 && !(everRan && base === 0) ? FIRST_PACKED_BASE : num;
}

/** What GET_VRING_BASE answers for a queue. */
export function baseOf({ nextAvail, nextUsed }: DeviceQueue): number {
  return nextUsed === undefined ? nextAvail : encodePackedBase(nextAvail, nextUsed);
}
