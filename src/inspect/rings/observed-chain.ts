/**
 * A descriptor chain as it stood in a ring when it was made available: guest addresses, copied, nothing translated. The
 * chain behind an indirect descriptor is read later, once its table can be reached. Nothing in it is trusted.
 */
import { viewOf } from "../../virtio/index.js";
import { DESC, DESC_BYTES, DescFlag } from "../../virtqueue/layout.js";
import { PACKED_DESC } from "../../virtqueue/packed-layout.js";
import type { GuestReader } from "./guest-reader.js";

/** Entries of one indirect table that are read. Linux's drivers use a few, its devices take 1024 at most (UIO_MAXIOV). */
const MOST_TABLE_ENTRIES = 1024;

/** One descriptor, copied. */
export interface ObservedDescriptor {
  readonly low: number;
  readonly high: number;
  readonly length: number;
  /** See `DescFlag`. */
  readonly flags: number;
}

/**
 * - `whole`: all descriptors are there.
 * - `unmapped`: its indirect table cannot be reached, perhaps not yet.
 * - `torn`: it makes no chain, be it that it never was one, that it was changed meanwhile, or that its table is not
 *   where it seems to be.
 */
export type ChainState = "whole" | "unmapped" | "torn";

export class ObservedChain {
  /** Those of the ring; undefined if they make no chain. */
  readonly #ring: readonly ObservedDescriptor[] | undefined;
  readonly #isIndirect: boolean;
  #descriptors: readonly ObservedDescriptor[] = [];

  /**
   * @param id what the used ring will name it by
   * @param ringDescriptors how many descriptors of the ring it takes
   * @param descriptors those of the ring; undefined if they make no chain
   */
  constructor(
    readonly id: number,
    readonly ringDescriptors: number,
    descriptors: readonly ObservedDescriptor[] | undefined,
  ) {
    const indirect = descriptors?.findIndex(({ flags }) => (flags & DescFlag.INDIRECT) !== 0) ?? -1;
    this.#isIndirect = indirect >= 0;
    this.#ring = this.#isIndirect && indirect !== this.ringDescriptors - 1 ? undefined : descriptors;
    if (!this.#isIndirect) this.#descriptors = this.#ring ?? [];
  }

  /** What stands in the first entries of a packed ring's indirect table. */
  static ofTable(bytes: Uint8Array, entries: number): ObservedChain {
    return new ObservedChain(0, entries, entriesInOrder(bytes, entries));
  }

  /** Reads the indirect table, if there is one, as it is now. */
  expand(guest: GuestReader, format: RingFormat): ChainState {
    if (this.#ring === undefined) return "torn";
    if (!this.#isIndirect) return "whole";
    const direct = this.#ring.slice(0, -1);
    const { low, high, length } = this.#ring[direct.length];
    const count = length / DESC_BYTES;
    if (!Number.isInteger(count) || count < 1 || count > MOST_TABLE_ENTRIES) return "torn";
    const bytes = new Uint8Array(length);
    if (!guest.read(low, high, bytes)) return "unmapped";
    const table = format === "split" ? linkedEntries(bytes, count) : entriesInOrder(bytes, count);
    this.#descriptors = table === undefined ? [] : [...direct, ...table];
    return table === undefined ? "torn" : "whole";
  }

  /** Sum of the lengths of its readable, or of its writable, descriptors. */
  byteLength(side: Side): number {
    return this.#of(side).reduce((sum, { length }) => sum + length, 0);
  }

  /** The first descriptor whose memory cannot be reached, once all of them are known. */
  firstOutside(guest: GuestReader): ObservedDescriptor | undefined {
    return this.#descriptors.find(({ low, high, length }) => !guest.canReach(low, high, length));
  }

  /** What tells its content's place from that of others: the address of its first byte on that side. */
  place(side: Side): string | undefined {
    const [first] = this.#of(side);
    return first && `${first.high}:${first.low}`;
  }

  /** Copies from `offset` on as much as fits into `into`; false if not all of that can be reached. */
  read(guest: GuestReader, side: Side, offset: number, into: Uint8Array): boolean {
    let skipped = 0;
    let at = 0;
    for (const { low, high, length } of this.#of(side)) {
      const begin = Math.max(0, offset - skipped);
      skipped += length;
      if (begin >= length) continue;
      const taken = Math.min(length - begin, into.byteLength - at);
      const next = low + begin;
      const carry = Math.floor(next / 2 ** 32);
      if (!guest.read(next % 2 ** 32, high + carry, into.subarray(at, at + taken))) return false;
      at += taken;
      if (at === into.byteLength) return true;
    }
    return at === into.byteLength;
  }

  #of(side: Side): readonly ObservedDescriptor[] {
    const wanted = side === "writable" ? DescFlag.WRITE : 0;
    return this.#descriptors.filter(({ flags }) => (flags & DescFlag.WRITE) === wanted);
  }
}

/** Whose a part of a chain is: the device's to read, or to write. */
export type Side = "readable" | "writable";

export type RingFormat = "split" | "packed";

/** In a packed ring's table entries simply follow each other (VIRTIO, Packed Virtqueues, Indirect Descriptors). */
function entriesInOrder(bytes: Uint8Array, count: number): readonly ObservedDescriptor[] {
  const data = viewOf(bytes);
  return Array.from({ length: count }, (_, index) => entryAt(data, index, PACKED_DESC.flags.offset));
}

function linkedEntries(bytes: Uint8Array, count: number): readonly ObservedDescriptor[] | undefined {
  const data = viewOf(bytes);
  const entries: ObservedDescriptor[] = [];
  for (let index = 0; entries.length < count; ) {
    const entry = entryAt(data, index, DESC.flags.offset);
    if ((entry.flags & DescFlag.INDIRECT) !== 0) return undefined;
    entries.push(entry);
    if ((entry.flags & DescFlag.NEXT) === 0) return entries;
    index = data.getUint16(index * DESC_BYTES + DESC.next.offset, true);
    if (index >= count) return undefined;
  }
  return undefined;
}

/** Address and length are at the same place in both formats. */
function entryAt(data: DataView, index: number, flagsOffset: number): ObservedDescriptor {
  const at = index * DESC_BYTES;
  return {
    low: data.getUint32(at + DESC.addr.offset, true),
    high: data.getUint32(at + DESC.addr.offset + 4, true),
    length: data.getUint32(at + DESC.len.offset, true),
    flags: data.getUint16(at + flagsOffset, true),
  };
}
