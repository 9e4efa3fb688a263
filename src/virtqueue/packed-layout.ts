/**
 * Where everything lies in a packed virtqueue: layouts as tables, flags, sizes and alignments (virtio 1.4, 2.8).
 * Knows no addresses and reads nothing. All fields are little-endian, as is every host this runs on.
 * Next: `packed-device-queue.ts` and `packed-driver-queue.ts`, the two ends that obey these tables.
 */
import { DESC_BYTES, type Field, MOST_QUEUE_SIZE } from "./layout.js";

/** 2.8.13: `struct pvirtq_desc { le64 addr; le32 len; le16 id; le16 flags; }` */
export const PACKED_DESC = {
  addr: { offset: 0, bytes: 8 },
  len: { offset: 8, bytes: 4 },
  id: { offset: 12, bytes: 2 },
  flags: { offset: 14, bytes: 2 },
} as const satisfies Record<string, Field>;

/** 2.8.14: `struct pvirtq_event_suppress { le16 desc; le16 flags; }`, one for each side's wishes. */
export const EVENT_SUPPRESS = {
  desc: { offset: 0, bytes: 2 },
  flags: { offset: 2, bytes: 2 },
} as const satisfies Record<string, Field>;

export const EVENT_SUPPRESS_BYTES = 4;

/** 2.8.1: a descriptor's owner is told by these two flags beside the wrap counter. NEXT, WRITE and INDIRECT are as in 2.7. */
export const PackedFlag = { AVAIL: 1 << 7, USED: 1 << 15 } as const;

/** 2.8.10: what a side wants to hear of. DESC is for VIRTIO_F_EVENT_IDX only, 3 is reserved. */
export const EventFlag = { ENABLE: 0, DISABLE: 1, DESC: 2 } as const;

/** 2.8.10.1: bits 0-14 of an event's `desc` are a position, bit 15 is the wrap counter there. */
export const WRAP_BIT = 0x8000;
const POSITION_MASK = 0x7fff;

/** 2.8.1: both wrap counters begin with 1. So does a `position` below: index 0, first lap. */
export const FIRST_POSITION = WRAP_BIT;

/** 2.8: at most 2^15, and not necessarily a power of 2. */
export function isPackedQueueSize(size: number): boolean {
  return Number.isInteger(size) && size >= 1 && size <= MOST_QUEUE_SIZE;
}

/** 2.8.10.1: alignment of the three areas. */
export const PACKED_ALIGNMENT = { desc: 16, driverEvent: 4, deviceEvent: 4 } as const;

/** Bytes of the descriptor ring. */
export function packedDescBytes(size: number): number {
  return DESC_BYTES * size;
}

/**
 * Where a side of the ring stands: the index of a descriptor, and the wrap counter in bit 15, as in an event's `desc`
 * and in each half of the vhost-user base of a ring.
 */
export function advance(position: number, count: number, size: number): number {
  const index = (position & POSITION_MASK) + count;
  const wrap = position & WRAP_BIT;
  return index < size ? index | wrap : (index - size) | (wrap ^ WRAP_BIT);
}

/** The way back: `count` is at most `size`. */
export function retreat(position: number, count: number, size: number): number {
  const index = (position & POSITION_MASK) - count;
  const wrap = position & WRAP_BIT;
  return index >= 0 ? index | wrap : (index + size) | (wrap ^ WRAP_BIT);
}

export function indexOf(position: number): number {
  return position & POSITION_MASK;
}

/** 2.8.1: the descriptor is the device's to take, on the lap of `position`. */
export function isAvailable(flags: number, position: number): boolean {
  const isSet = (flags & PackedFlag.AVAIL) !== 0;
  const isUsed = (flags & PackedFlag.USED) !== 0;
  return isSet !== isUsed && isSet === ((position & WRAP_BIT) !== 0);
}

/** 2.8.1: the descriptor has been used, on the lap of `position`. */
export function isUsed(flags: number, position: number): boolean {
  const isSet = (flags & PackedFlag.AVAIL) !== 0;
  const wasUsed = (flags & PackedFlag.USED) !== 0;
  return isSet === wasUsed && isSet === ((position & WRAP_BIT) !== 0);
}

/** The two flags of a descriptor made available at `position`. */
export function availableFlags(position: number): number {
  return (position & WRAP_BIT) !== 0 ? PackedFlag.AVAIL : PackedFlag.USED;
}

/** The two flags of a descriptor used at `position`. */
export function usedFlags(position: number): number {
  return (position & WRAP_BIT) !== 0 ? PackedFlag.AVAIL | PackedFlag.USED : 0;
}

/**
 * Whether moving to `position` by `count` descriptors (at most `size`) passed the descriptor that an event names. An
 * event that names no descriptor of this ring is never passed.
 */
export function passesPackedEvent(event: number, position: number, count: number, size: number): boolean {
  const isOnLap = ((event ^ position) & WRAP_BIT) === 0;
  const ahead = indexOf(position) - indexOf(event) + (isOnLap ? 0 : size);
  return indexOf(event) < size && ahead >= 1 && ahead <= count;
}

/** The three areas of a queue laid out one after the other, as offsets from an address aligned to 16. */
export interface PackedPlacement {
  readonly desc: number;
  readonly driverEvent: number;
  readonly deviceEvent: number;
  readonly totalBytes: number;
}

/** Places the areas in one block; `areaAlignment` (4096 for instance) puts each on pages of its own. */
export function placePackedQueue(size: number, areaAlignment = 16): PackedPlacement {
  const up = (offset: number): number => Math.ceil(offset / areaAlignment) * areaAlignment;
  const driverEvent = up(packedDescBytes(size));
  const deviceEvent = up(driverEvent + EVENT_SUPPRESS_BYTES);
  return { desc: 0, driverEvent, deviceEvent, totalBytes: up(deviceEvent + EVENT_SUPPRESS_BYTES) };
}
