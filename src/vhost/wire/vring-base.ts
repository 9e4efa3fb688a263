/**
 * The `num` of SET_VRING_BASE and GET_VRING_BASE, whose meaning depends on the ring's layout.
 *
 * vhost-user, "A vring descriptor index for split virtqueues": the next available index in bits 0-15, the rest zero.
 * "Vring descriptor indices for packed virtqueues": the next descriptor to be taken in bits 0-14 with its wrap counter
 * in bit 15, the next to be used in bits 16-30 with its wrap counter in bit 31.
 */

/** The next available index of a split ring. Reserved bits are ignored. */
export function decodeSplitBase(num: number): number {
  return num & 0xffff;
}

/** Where the two sides of a packed ring stand, each with a wrap counter in bit 15. */
export interface PackedBase {
  readonly availPosition: number;
  readonly usedPosition: number;
}

export function decodePackedBase(num: number): PackedBase {
  return { availPosition: num & 0xffff, usedPosition: num >>> 16 };
}

export function encodePackedBase(availPosition: number, usedPosition: number): number {
  return ((usedPosition << 16) | availPosition) >>> 0;
}

/** Of a packed ring that nobody has used yet: both at descriptor 0, both wrap counters 1 (virtio 1.4, 2.8.1). */
export const FIRST_PACKED_BASE = 0x8000_8000;
