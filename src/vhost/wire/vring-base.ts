/**
 * The `num` of SET_VRING_BASE and GET_VRING_BASE, whose meaning depends on the ring's layout.
 *
 * vhost-user, "A vring descriptor index for split virtqueues": the next available index in bits 0-15, the rest zero.
 * (A packed virtqueue has two indices with a wrap counter each there; this back-end refuses RING_PACKED.)
 */

/** The next available index of a split ring. Reserved bits are ignored. */
export function decodeSplitBase(num: number): number {
  return num & 0xffff;
}
