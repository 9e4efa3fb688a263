// The `num` of SET_VRING_BASE and GET_VRING_BASE, whose meaning depends on the ring's layout.
//
// vhost-user, "A vring descriptor index for split virtqueues" and "Vring descriptor indices for packed
// virtqueues": split is the next available index in bits 0-15, the rest zero; packed is two indices with a
// wrap counter each.

/** Where a packed ring continues: index and wrap counter of both sides. */
export interface PackedBase {
  readonly availIndex: number;
  readonly availWrap: boolean;
  readonly usedIndex: number;
  readonly usedWrap: boolean;
}

const INDEX = 0x7fff;
const WRAP = 0x8000;

/** The next available index of a split ring. Reserved bits are ignored. */
export function decodeSplitBase(num: number): number {
  return num & 0xffff;
}

/** Splits the `num` of a packed ring. */
export function decodePackedBase(num: number): PackedBase {
  const used = num >>> 16;
  return {
    availIndex: num & INDEX,
    availWrap: (num & WRAP) !== 0,
    usedIndex: used & INDEX,
    usedWrap: (used & WRAP) !== 0,
  };
}

/** The `num` of a packed ring. */
export function encodePackedBase(base: PackedBase): number {
  const avail = base.availIndex | (base.availWrap ? WRAP : 0);
  const used = base.usedIndex | (base.usedWrap ? WRAP : 0);
  return ((used << 16) | avail) >>> 0;
}
