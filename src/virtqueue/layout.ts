/**
 * Where everything lies in a split virtqueue: layouts as tables, flags, sizes and alignments (virtio 1.4, 2.7).
 * Knows no addresses and reads nothing. All fields are little-endian, as is every host this runs on (x86-64, arm64).
 * Next: `split-device-queue.ts` and `split-driver-queue.ts`, the two ends that obey these tables.
 */

/** One field of a layout: offset from the start of its structure, and width, in bytes. */
export interface Field {
  readonly offset: number;
  readonly bytes: number;
}

/** 2.7.5: `struct virtq_desc { le64 addr; le32 len; le16 flags; le16 next; }` */
export const DESC = {
  addr: { offset: 0, bytes: 8 },
  len: { offset: 8, bytes: 4 },
  flags: { offset: 12, bytes: 2 },
  next: { offset: 14, bytes: 2 },
} as const satisfies Record<string, Field>;

/** 2.7.6: `struct virtq_avail { le16 flags; le16 idx; le16 ring[size]; le16 used_event; }`, the part before `ring`. */
export const AVAIL = {
  flags: { offset: 0, bytes: 2 },
  idx: { offset: 2, bytes: 2 },
} as const satisfies Record<string, Field>;

/** 2.7.8: `struct virtq_used { le16 flags; le16 idx; struct virtq_used_elem ring[size]; le16 avail_event; }` */
export const USED = {
  flags: { offset: 0, bytes: 2 },
  idx: { offset: 2, bytes: 2 },
} as const satisfies Record<string, Field>;

/** 2.7.8: `struct virtq_used_elem { le32 id; le32 len; }` */
export const USED_ELEMENT = {
  id: { offset: 0, bytes: 4 },
  len: { offset: 4, bytes: 4 },
} as const satisfies Record<string, Field>;

export const DESC_BYTES = 16;
export const USED_ELEMENT_BYTES = 8;
/** Both rings' elements start after `flags` and `idx`. */
export const RING_START_BYTES = 4;

/** Offset of `avail.ring[slot]`; `slot === size` is `used_event` (2.7.6). */
export function availRingOffset(slot: number): number {
  return RING_START_BYTES + 2 * slot;
}

/** Offset of `used.ring[slot]`; `slot === size` is `avail_event` (2.7.8). */
export function usedRingOffset(slot: number): number {
  return RING_START_BYTES + USED_ELEMENT_BYTES * slot;
}

/** Bytes of the descriptor table. */
export function descBytes(size: number): number {
  return DESC_BYTES * size;
}

/** Bytes of the avail ring. The event field at its end exists for the device only where EVENT_IDX was negotiated. */
export function availBytes(size: number, eventIdx = true): number {
  return availRingOffset(size) + (eventIdx ? 2 : 0);
}

/** Bytes of the used ring, likewise. */
export function usedBytes(size: number, eventIdx = true): number {
  return usedRingOffset(size) + (eventIdx ? 2 : 0);
}

/** 2.7: alignment of the three areas. */
export const ALIGNMENT = { desc: 16, avail: 2, used: 4 } as const;

/** 2.7: the queue size is a power of 2 and at most this. */
export const MOST_QUEUE_SIZE = 32768;

/** 2.7.5: descriptor flags. Others are reserved and ignored. */
export const DescFlag = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;

/** 2.7.6: `avail.flags`: the driver wants no notification (only without EVENT_IDX). */
export const AVAIL_NO_INTERRUPT = 1;
/** 2.7.8: `used.flags`: the device wants no kick (only without EVENT_IDX). */
export const USED_NO_NOTIFY = 1;

export function isQueueSize(size: number): boolean {
  return Number.isInteger(size) && size >= 1 && size <= MOST_QUEUE_SIZE && (size & (size - 1)) === 0;
}

/**
 * 2.7.10, `vring_need_event`: whether moving an index to `newIndex` by `count` steps (at most 65535) passed the
 * `event` index at which the other side asked to be told.
 */
export function passesEvent(event: number, newIndex: number, count: number): boolean {
  return ((newIndex - event - 1) & 0xffff) < count;
}

/** The three areas of a queue laid out one after the other, as offsets from an address aligned to 16. */
export interface SplitPlacement {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly totalBytes: number;
}

/** Places the areas in one block; `areaAlignment` (4096 for instance) puts each on pages of its own. */
export function placeSplitQueue(size: number, areaAlignment = 16): SplitPlacement {
  const up = (offset: number): number => Math.ceil(offset / areaAlignment) * areaAlignment;
  const avail = up(descBytes(size));
  const used = up(avail + availBytes(size));
  return { desc: 0, avail, used, totalBytes: up(used + usedBytes(size)) };
}
