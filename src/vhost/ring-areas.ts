/**
 * Where the three areas of a ring lie and how long they are, split or packed: SET_VRING_ADDR has the same three fields
 * for both (virtio 1.4, 2.7 and 2.8). Must not know who looks them up.
 */
import { F, has } from "../virtio/index.js";
import { availBytes, descBytes, usedBytes } from "../virtqueue/layout.js";
import { EVENT_SUPPRESS_BYTES, packedDescBytes } from "../virtqueue/packed-layout.js";
import type { RingState } from "./ring-state.js";

export interface RingAreaRange {
  /** As in "the … of queue 0". */
  readonly name: string;
  readonly address: bigint;
  readonly bytes: number;
}

/** The areas of a ring that has been set up under these features; none if it has not. */
export function ringAreas(
  { addresses, size }: Pick<RingState, "addresses" | "size">,
  features: bigint,
): readonly RingAreaRange[] {
  if (addresses === undefined || size === 0) return [];
  const { desc, avail, used } = addresses;
  if (has(features, F.RING_PACKED)) {
    return [
      { name: "descriptor ring", address: desc, bytes: packedDescBytes(size) },
      { name: "driver event suppression", address: avail, bytes: EVENT_SUPPRESS_BYTES },
      { name: "device event suppression", address: used, bytes: EVENT_SUPPRESS_BYTES },
    ];
  }
  const eventIdx = has(features, F.EVENT_IDX);
  return [
    { name: "descriptor table", address: desc, bytes: descBytes(size) },
    { name: "avail ring", address: avail, bytes: availBytes(size, eventIdx) },
    { name: "used ring", address: used, bytes: usedBytes(size, eventIdx) },
  ];
}
