/**
 * The IOTLB: which I/O virtual addresses the front-end has mapped, to where, and for which accesses. Owns no memory:
 * it points into the memory table's mappings. Does not send or read messages, and does not know what is missing
 * (`miss-queue.ts`) or what a chain is (`iotlb-space.ts`).
 *
 * Entries are inclusive ranges `start..last`, so nothing overflows at 2^64, and of any bytes, as vhost has them. An
 * address is a page number (exact as a double: below 2^52) and an offset in the page. Entries never overlap and are
 * kept sorted in columns, so that a search reads one array; putting one in moves those behind it, which costs a few
 * microseconds at 2048 entries against some twenty for the message that brought it. Looking up allocates nothing.
 */
import { type Access, Access as AccessBits } from "./address.js";
import { hex, MemoryError } from "./errors.js";
import type { GuestMemory } from "./guest-memory.js";
import type { Region } from "./region.js";

/** As many as Linux keeps (drivers/vhost/vhost.c, max_iotlb_entries). At the limit the oldest is retired. */
export const IOTLB_ENTRIES = 2048;

const PAGE_BYTES = 4096;
const LAST_OFFSET = PAGE_BYTES - 1;
const TWO_TO_20 = 2 ** 20;
const TWO_TO_64 = 2n ** 64n;
/** Page numbers of the 64-bit space are below this. */
export const PAGE_COUNT = 2 ** 52;

export interface IotlbStatistics {
  /** Lookups that found an entry, and that found none. */
  hits: number;
  misses: number;
  /** UPDATE and INVALIDATE messages that were obeyed. */
  updates: number;
  invalidations: number;
  /** Entries dropped to make room. */
  retired: number;
}

/** One entry, for logs and tests. */
export interface IotlbEntry {
  readonly iova: bigint;
  readonly size: bigint;
  readonly host: number;
  readonly permission: Access;
}

/** Host-contiguous part of an UPDATE. */
interface Piece {
  readonly host: number;
  readonly bytes: number;
}

interface PinnedRange {
  readonly firstPage: number;
  readonly lastPage: number;
}

export class Iotlb {
  /** How many entries there are. */
  count = 0;
  /** Changes when a mapping was removed, replaced or retired; not when one was only added. */
  generation = 0;
  readonly statistics: IotlbStatistics = { hits: 0, misses: 0, updates: 0, invalidations: 0, retired: 0 };
  /** Allowed accesses of each entry, as bits of `Access`. */
  readonly permission: Uint8Array;
  /** 1 for entries that touch a pinned range. */
  readonly pinned: Uint8Array;
  /** The chain that was last counted to use the entry (`IotlbSpace.beginChain`). */
  readonly chain: Uint32Array;

  readonly #startPage: Float64Array;
  readonly #startOffset: Uint16Array;
  readonly #lastPage: Float64Array;
  readonly #lastOffset: Uint16Array;
  /** Host address of the entry's first byte. */
  readonly #host: Float64Array;
  /** Which UPDATE brought the entry: the lowest is the oldest. */
  readonly #serial: Float64Array;
  readonly #columns: readonly (Float64Array | Uint32Array | Uint16Array | Uint8Array)[];
  #nextSerial = 1;
  #pins: PinnedRange[] = [];
  #pinnedPages = 0;

  constructor(
    readonly memory: GuestMemory,
    readonly capacity: number = IOTLB_ENTRIES,
  ) {
    // A replacement in the middle of an entry makes one more before room is made.
    const slots = capacity + 1;
    this.#startPage = new Float64Array(slots);
    this.#startOffset = new Uint16Array(slots);
    this.#lastPage = new Float64Array(slots);
    this.#lastOffset = new Uint16Array(slots);
    this.#host = new Float64Array(slots);
    this.#serial = new Float64Array(slots);
    this.permission = new Uint8Array(slots);
    this.pinned = new Uint8Array(slots);
    this.chain = new Uint32Array(slots);
    this.#columns = [
      this.#startPage,
      this.#startOffset,
      this.#lastPage,
      this.#lastOffset,
      this.#host,
      this.#serial,
      this.permission,
      this.pinned,
      this.chain,
    ];
    // Regions that go away take the entries that point into them along: their host addresses are used again.
    memory.onRemoval((region) => this.flushRegion(region));
  }

  /** How many entries are left for what is not pinned. */
  get unpinnedCapacity(): number {
    return Math.max(0, this.capacity - this.#pinnedPages);
  }

  // ---- hot path ----------------------------------------------------------------------------------------------

  /**
   * The position of the entry that contains a byte, or -1. `hint` is a position that is tried first; any number that
   * is not negative will do. Positions are valid until the table changes.
   */
  find(page: number, offset: number, hint: number): number {
    if (
      hint < this.count &&
      this.#startsAtOrBefore(hint, page, offset) &&
      this.#endsAtOrAfter(hint, page, offset)
    ) {
      return hint;
    }
    const position = this.#lastStartingAtOrBefore(page, offset);
    return position >= 0 && this.#endsAtOrAfter(position, page, offset) ? position : -1;
  }

  /** True if the entry at `position` exists and begins exactly here. */
  startsAt(position: number, page: number, offset: number): boolean {
    return (
      position < this.count && this.#startPage[position] === page && this.#startOffset[position] === offset
    );
  }

  /** Host address of a byte inside the entry at `position`. */
  hostAt(position: number, page: number, offset: number): number {
    return (
      this.#host[position] +
      (page - this.#startPage[position]) * PAGE_BYTES +
      (offset - this.#startOffset[position])
    );
  }

  /** How many bytes the entry at `position` has from a byte inside it to its end. */
  bytesFrom(position: number, page: number, offset: number): number {
    return (this.#lastPage[position] - page) * PAGE_BYTES + (this.#lastOffset[position] - offset) + 1;
  }

  #startsAtOrBefore(position: number, page: number, offset: number): boolean {
    const start = this.#startPage[position];
    return start < page || (start === page && this.#startOffset[position] <= offset);
  }

  #endsAtOrAfter(position: number, page: number, offset: number): boolean {
    const last = this.#lastPage[position];
    return last > page || (last === page && this.#lastOffset[position] >= offset);
  }

  #lastStartingAtOrBefore(page: number, offset: number): number {
    const startPage = this.#startPage;
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (startPage[middle] <= page) low = middle + 1;
      else high = middle;
    }
    let position = low - 1;
    // Only entries smaller than a page share one.
    while (position >= 0 && startPage[position] === page && this.#startOffset[position] > offset) position--;
    return position;
  }

  // ---- messages ----------------------------------------------------------------------------------------------

  /**
   * VHOST_IOTLB_UPDATE: maps `size` bytes at `iova` to the front-end's user address `uva` (a guest-physical one under
   * GPA_ADDRESSES). What was mapped there before is replaced, and the rest of it stays: unlike Linux, where
   * duplicates stand, a lookup has one answer. Throws a MemoryError for a message that cannot be obeyed.
   */
  update(iova: bigint, size: bigint, uva: bigint, permission: number): void {
    const where = `UPDATE iova=${hex(iova)} size=${hex(size)} uaddr=${hex(uva)} perm=${permission}`;
    checkRange(iova, size, where);
    if (permission < AccessBits.READ || permission > AccessBits.READ_WRITE || !Number.isInteger(permission)) {
      throw new MemoryError("bad-permission", `${where}: permission has to be 1, 2 or 3`);
    }
    const pieces = this.#resolve(uva, size, where);
    if (pieces.length > this.capacity) {
      throw new MemoryError(
        "no-room",
        `${where}: spans more regions than there are entries (${this.capacity})`,
      );
    }
    const last = iova + size - 1n;
    const startPage = pageOf(iova);
    const startOffset = offsetOf(iova);
    const serial = this.#nextSerial++;
    this.statistics.updates++;
    if (this.#isRepetition(startPage, startOffset, last, pieces, permission, serial)) return;
    this.#cut(startPage, startOffset, pageOf(last), offsetOf(last));
    this.#makeRoom(pieces.length);
    let page = startPage;
    let offset = startOffset;
    for (const { host, bytes } of pieces) {
      const lastByte = offset + bytes - 1;
      const lastPage = page + Math.floor(lastByte / PAGE_BYTES);
      const lastOffset = lastByte % PAGE_BYTES;
      this.#insert(page, offset, lastPage, lastOffset, host, permission, serial);
      page = lastOffset === LAST_OFFSET ? lastPage + 1 : lastPage;
      offset = (lastOffset + 1) % PAGE_BYTES;
    }
  }

  /**
   * VHOST_IOTLB_INVALIDATE: every entry that overlaps the range goes, the whole of it, as in Linux. What lay outside of
   * the range can be asked for again, while keeping it would be wrong where the guest invalidates a large page by
   * naming one address in it. The range may end at the very end of the space: QEMU's intel-iommu announces
   * "0xfef00000 to 2^64" so. A message that makes no sense throws, after everything was unmapped: whatever it was
   * meant to take away is gone.
   */
  invalidate(iova: bigint, size: bigint): void {
    try {
      checkRange(iova, size, `INVALIDATE iova=${hex(iova)} size=${hex(size)}`);
    } catch (error) {
      this.clear();
      throw error;
    }
    this.statistics.invalidations++;
    const last = iova + size - 1n;
    const from = this.#firstOverlap(pageOf(iova), offsetOf(iova));
    const to = this.#lastStartingAtOrBefore(pageOf(last), offsetOf(last)) + 1;
    if (to <= from) return;
    this.#removeBlock(from, to);
    this.generation++;
  }

  /** Removes the entries that point into a region of the memory table. */
  flushRegion(region: Pick<Region, "host" | "size">): void {
    for (let position = this.count - 1; position >= 0; position--) {
      const host = this.#host[position];
      if (host < region.host || host >= region.host + region.size) continue;
      this.#removeBlock(position, position + 1);
      this.generation++;
    }
  }

  /** Removes every entry. */
  clear(): void {
    if (this.count === 0) return;
    this.count = 0;
    this.generation++;
  }

  /**
   * Keeps the entries of a range from being retired, now and later: the pages of a ring, without which nothing else
   * could be asked for. They can still be invalidated.
   */
  pin(low: number, high: number, length: number): void {
    if (length === 0) return;
    const firstPage = pageNumber(low, high);
    const lastPage = firstPage + Math.floor(((low % PAGE_BYTES) + length - 1) / PAGE_BYTES);
    this.#pins.push({ firstPage, lastPage });
    this.#pinnedPages += lastPage - firstPage + 1;
    this.#markPinned();
  }

  unpinAll(): void {
    this.#pins = [];
    this.#pinnedPages = 0;
    this.#markPinned();
  }

  /** True if a page lies in a pinned range. */
  isPinnedPage(page: number): boolean {
    return this.#isPinned(page, page);
  }

  /** All entries in the order of their addresses. For logs and tests: it allocates. */
  entries(): IotlbEntry[] {
    const entries: IotlbEntry[] = [];
    for (let position = 0; position < this.count; position++) {
      const iova = BigInt(this.#startPage[position]) * 4096n + BigInt(this.#startOffset[position]);
      const last = BigInt(this.#lastPage[position]) * 4096n + BigInt(this.#lastOffset[position]);
      const permission = this.permission[position] as Access;
      entries.push({ iova, size: last - iova + 1n, host: this.#host[position], permission });
    }
    return entries;
  }

  // ---- changing the table ------------------------------------------------------------------------------------

  /** The host-contiguous pieces of a range of user addresses: more than one if it spans regions. */
  #resolve(uva: bigint, size: bigint, where: string): Piece[] {
    const pieces: Piece[] = [];
    // Number() may round what is beyond 2^53, but that is in no region either way.
    let at = Number(uva);
    let remaining = Number(size);
    while (remaining > 0) {
      const available = this.memory.contiguousFromUva(at);
      if (available === 0) {
        const name = this.memory.guestAddressesOnly ? "guest-physical" : "user";
        throw new MemoryError("outside-memory", `${where}: ${name} address ${hex(at)} is in no region`);
      }
      const bytes = Math.min(available, remaining);
      pieces.push({ host: this.memory.uvaToHost(at), bytes });
      at += bytes;
      remaining -= bytes;
    }
    return pieces;
  }

  /** True if one entry already says the same (QEMU repeats itself). It becomes as young as the message. */
  #isRepetition(
    page: number,
    offset: number,
    last: bigint,
    pieces: readonly Piece[],
    permission: number,
    serial: number,
  ): boolean {
    const position = this.find(page, offset, 0);
    if (position < 0 || pieces.length !== 1 || this.permission[position] !== permission) return false;
    if (!this.#endsAtOrAfter(position, pageOf(last), offsetOf(last))) return false;
    if (this.hostAt(position, page, offset) !== pieces[0].host) return false;
    this.#serial[position] = serial;
    return true;
  }

  /** The position of the first entry that ends at or after a byte. */
  #firstOverlap(page: number, offset: number): number {
    const position = this.#lastStartingAtOrBefore(page, offset);
    return position >= 0 && this.#endsAtOrAfter(position, page, offset) ? position : position + 1;
  }

  /** Unmaps exactly a range: entries that reach beyond it keep the rest. */
  #cut(startPage: number, startOffset: number, lastPage: number, lastOffset: number): void {
    let from = this.#firstOverlap(startPage, startOffset);
    let to = this.#lastStartingAtOrBefore(lastPage, lastOffset) + 1;
    if (to <= from) return;
    this.generation++;
    const final = to - 1;
    const endsAfter =
      this.#lastPage[final] > lastPage ||
      (this.#lastPage[final] === lastPage && this.#lastOffset[final] > lastOffset);
    const startsBefore =
      this.#startPage[from] < startPage ||
      (this.#startPage[from] === startPage && this.#startOffset[from] < startOffset);
    if (endsAfter && startsBefore && from === final) {
      this.#duplicate(from);
      to++;
    }
    if (startsBefore) {
      this.#lastPage[from] = startOffset > 0 ? startPage : startPage - 1;
      this.#lastOffset[from] = startOffset > 0 ? startOffset - 1 : LAST_OFFSET;
      this.#markPinnedAt(from);
      from++;
    }
    if (endsAfter) {
      to--;
      const page = lastOffset === LAST_OFFSET ? lastPage + 1 : lastPage;
      const offset = (lastOffset + 1) % PAGE_BYTES;
      this.#host[to] = this.hostAt(to, page, offset);
      this.#startPage[to] = page;
      this.#startOffset[to] = offset;
      this.#markPinnedAt(to);
    }
    this.#removeBlock(from, to);
  }

  /** Retires entries until `entries` more fit. */
  #makeRoom(entries: number): void {
    while (this.count + entries > this.capacity) {
      const oldest = this.#oldest();
      this.#removeBlock(oldest, oldest + 1);
      this.statistics.retired++;
      this.generation++;
    }
  }

  /** The position of the oldest entry that is not pinned; of the oldest at all if every one is. */
  #oldest(): number {
    let oldest = 0;
    for (let position = 1; position < this.count; position++) {
      const pinned = this.pinned[position] - this.pinned[oldest];
      if (pinned < 0 || (pinned === 0 && this.#serial[position] < this.#serial[oldest])) oldest = position;
    }
    return oldest;
  }

  #insert(
    startPage: number,
    startOffset: number,
    lastPage: number,
    lastOffset: number,
    host: number,
    permission: number,
    serial: number,
  ): void {
    const position = this.#lastStartingAtOrBefore(startPage, startOffset) + 1;
    for (const column of this.#columns) column.copyWithin(position + 1, position, this.count);
    this.count++;
    this.#startPage[position] = startPage;
    this.#startOffset[position] = startOffset;
    this.#lastPage[position] = lastPage;
    this.#lastOffset[position] = lastOffset;
    this.#host[position] = host;
    this.#serial[position] = serial;
    this.permission[position] = permission;
    this.chain[position] = 0;
    this.#markPinnedAt(position);
  }

  #duplicate(position: number): void {
    for (const column of this.#columns) column.copyWithin(position + 1, position, this.count);
    this.count++;
  }

  #removeBlock(from: number, to: number): void {
    if (to <= from) return;
    for (const column of this.#columns) column.copyWithin(from, to, this.count);
    this.count -= to - from;
  }

  #markPinned(): void {
    for (let position = 0; position < this.count; position++) this.#markPinnedAt(position);
  }

  #markPinnedAt(position: number): void {
    this.pinned[position] = this.#isPinned(this.#startPage[position], this.#lastPage[position]) ? 1 : 0;
  }

  #isPinned(firstPage: number, lastPage: number): boolean {
    for (const pin of this.#pins) {
      if (pin.firstPage <= lastPage && firstPage <= pin.lastPage) return true;
    }
    return false;
  }
}

/** The page number of an address given as halves. */
export function pageNumber(low: number, high: number): number {
  return high * TWO_TO_20 + (low >>> 12);
}

function pageOf(iova: bigint): number {
  return Number(iova >> 12n);
}

function offsetOf(iova: bigint): number {
  return Number(iova & 0xfffn);
}

/** A range has at least one byte and its last byte is below 2^64. */
function checkRange(iova: bigint, size: bigint, where: string): void {
  if (size <= 0n) throw new MemoryError("empty", `${where}: the range is empty`);
  if (iova < 0n || iova + size > TWO_TO_64) {
    throw new MemoryError("address-overflow", `${where}: the range ends beyond 2^64`);
  }
}
