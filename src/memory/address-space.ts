/**
 * What a device side needs of memory: turn (address, length) of one address space into host segments, or say why not.
 * Implemented over the memory table (`table-space.ts`: guest-physical and user addresses) and over the IOTLB
 * (`iotlb-space.ts`: I/O virtual addresses). Knows nothing of rings.
 */
import type { Access, Outcome } from "./address.js";
import type { SegmentList } from "./segments.js";

/** Why a translation ended in FAULT. */
export interface TranslationFault {
  readonly code: "outside-memory" | "not-permitted" | "too-many-pages";
  /** One line for a person, with the address and its space. */
  readonly message: string;
}

export interface AddressSpace {
  /** "gpa", "uva" or "iova": which kind of address this space translates. */
  readonly kind: "gpa" | "uva" | "iova";

  /**
   * Changes whenever a range that was resolved earlier may no longer be valid (a region or mapping went away or
   * changed). Whoever keeps a resolved range (ring views) compares it before each use.
   */
  readonly generation: number;

  /**
   * Starts the count of pages for `mostPagesPerChain` anew. The device side calls it before it translates the first
   * buffer of a chain, and again whenever it starts the same chain over after a MISS. Ring areas and indirect tables
   * are translated without it or within it alike. Does nothing where nothing is cached.
   */
  beginChain(): void;

  /**
   * Appends to `out` the host segments of `length` bytes at address `high * 2^32 + low`. Both halves may be signed or
   * unsigned 32-bit numbers: `x | 0` at the call keeps the engine from boxing what exceeds 2^31. A length of 0 is OK
   * and appends nothing. On MISS or FAULT `out` may hold a part; the caller discards it. On MISS every unmapped page
   * of the range has been noted as missing, as far as the queue of misses had room, so that a device which goes on to
   * translate the rest of its chain asks for everything in one round trip. Never blocks.
   */
  translate(low: number, high: number, length: number, access: Access, out: SegmentList): Outcome;

  /** The reason of the latest FAULT; meaningful only straight after one. */
  readonly fault: TranslationFault | undefined;

  /** How many distinct pages one chain may need (Infinity where nothing is cached); more is a FAULT, "too-many-pages". */
  readonly mostPagesPerChain: number;
}
