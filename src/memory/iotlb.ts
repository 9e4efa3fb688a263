/**
 * The IOTLB: which I/O virtual addresses the front-end has mapped, to where, and for which accesses. Owns no memory:
 * it points into the memory table's mappings. Does not send or read messages, and does not know what is missing
 * (`miss-queue.ts`) or what a chain is (`iotlb-space.ts`).
 *
 * An entry is a range of any bytes, as vhost has them: where it starts and how many bytes it has, never where it ends,
 * so that nothing overflows at 2^64. An address is a page number (exact as a double: below 2^52) and an offset in the
 * page. Entries never overlap and are kept sorted, in columns, so that a search reads one array; putting one in moves
 * those behind it, a few microseconds at 2048 entries against some twenty for the message that brought it.
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
/** Where pages were found last, by the lowest bits of their numbers: a power of 2 as large as the table. */
const HINTS = 2048;
const HINT_MASK = HINTS - 1;
/** Added to the serial of a pinned entry, so that it counts as younger than any other. */
const PINNED_RANK = 2 ** 52;

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

interface Place {
  readonly page: number;
  readonly offset: number;
}

interface Range extends Place {
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

  // The columns, to be read only: the hot path of `iotlb-space.ts` does without calls that would box a double.
  readonly startPage: Float64Array;
  readonly startOffset: Uint16Array;
  /** Exact: an entry is no larger than a region. */
  readonly bytes: Float64Array;
  /** Host address of the entry's first byte. */
  readonly host: Float64Array;
  /** Allowed accesses, as bits of `Access`. */
  readonly permission: Uint8Array;
  /** 1 for entries that touch a pinned range. */
  readonly pinned: Uint8Array;
  /** The chain that was last counted to use the entry (`IotlbSpace.beginChain`, which writes it). */
  readonly chain: Uint32Array;
  /** Which UPDATE brought the entry: the lowest is the oldest. */
  readonly #serial: Float64Array;
  readonly #columns: readonly (Float64Array | Uint32Array | Uint16Array | Uint8Array)[];
  readonly #hints = new Uint16Array(HINTS);
  #nextSerial = 1;
  #pins: PinnedRange[] = [];
  #pinnedPages = 0;
  /** How many entries are left for what is not pinned. */
  unpinnedCapacity: number;

  constructor(
    readonly memory: GuestMemory,
    readonly capacity: number = IOTLB_ENTRIES,
  ) {
    this.unpinnedCapacity = capacity;
    // A replacement in the middle of an entry makes one more before room is made.
    const slots = capacity + 1;
    this.startPage = new Float64Array(slots);
    this.startOffset = new Uint16Array(slots);
    this.bytes = new Float64Array(slots);
    this.host = new Float64Array(slots);
    this.permission = new Uint8Array(slots);
    this.pinned = new Uint8Array(slots);
    this.chain = new Uint32Array(slots);
    this.#serial = new Float64Array(slots);
    this.#columns = [
      this.startPage,
      this.startOffset,
      this.bytes,
      this.host,
      this.permission,
      this.pinned,
      this.chain,
      this.#serial,
    ];
    // Regions that go away take the entries that point into them along: their host addresses are used again.
    memory.onRemoval((region) => this.flushRegion(region));
  }

  /**
   * The position of the entry that contains the byte at `high * 2^32 + low`, or -1. Positions are valid until the table
   * changes. A search is eleven unpredictable branches at 2048 entries, so where a page was found last time is tried
   * first; if the table changed since, that is merely the wrong place. Hot path: allocates nothing.
   */
  find(low: number, high: number): number {
    const page = (high >>> 0) * TWO_TO_20 + (low >>> 12);
    const offset = low & LAST_OFFSET;
    const slot = (low >>> 12) & HINT_MASK;
    const hint = this.#hints[slot];
    if (hint < this.count) {
      const begin = (page - this.startPage[hint]) * PAGE_BYTES + (offset - this.startOffset[hint]);
      if (begin >= 0 && begin < this.bytes[hint]) return hint;
    }
    const position = this.#lastStartingAtOrBefore(page, offset);
    if (position < 0 || this.#offsetIn(position, page, offset) >= this.bytes[position]) return -1;
    this.#hints[slot] = position;
    return position;
  }

  // ---- messages ----------------------------------------------------------------------------------------------

  /**
   * VHOST_IOTLB_UPDATE: maps `size` bytes at `iova` to the front-end's user address `uva` (a guest-physical one under
   * GPA_ADDRESSES). What was mapped there before is replaced, and the rest of it stays: unlike Linux, where
   * duplicates stand, a lookup has one answer. Throws a MemoryError for a message that cannot be obeyed.
   */
  update(iova: bigint, size: bigint, uva: bigint, permission: number): void {
    const where = () => `UPDATE iova=${hex(iova)} size=${hex(size)} uaddr=${hex(uva)} perm=${permission}`;
    checkRange(iova, size, where);
    if (permission < AccessBits.READ || permission > AccessBits.READ_WRITE || !Number.isInteger(permission)) {
      throw new MemoryError("bad-permission", `${where()}: permission has to be 1, 2 or 3`);
    }
    const pieces = this.#resolve(uva, size, where);
    if (pieces.length > this.capacity) {
      throw new MemoryError(
        "no-room",
        `${where()}: spans more regions than there are entries (${this.capacity})`,
      );
    }
    const range: Range = { page: pageOf(iova), offset: offsetOf(iova), bytes: Number(size) };
    const serial = this.#nextSerial++;
    this.statistics.updates++;
    if (this.#isRepetition(range, pieces, permission, serial)) return;
    this.#cut(range);
    this.#makeRoom(pieces.length);
    let covered = 0;
    for (const { host, bytes } of pieces) {
      this.#insert(placeAfter(range, covered), bytes, host, permission, serial);
      covered += bytes;
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
      checkRange(iova, size, () => `INVALIDATE iova=${hex(iova)} size=${hex(size)}`);
    } catch (error) {
      this.clear();
      throw error;
    }
    this.statistics.invalidations++;
    const last = iova + size - 1n;
    const from = this.#firstEndingAfter(pageOf(iova), offsetOf(iova));
    const to = this.#lastStartingAtOrBefore(pageOf(last), offsetOf(last)) + 1;
    if (to <= from) return;
    this.#removeBlock(from, to);
    this.generation++;
  }

  /** Removes the entries that point into a region of the memory table. */
  flushRegion(region: Pick<Region, "host" | "size">): void {
    for (let position = this.count - 1; position >= 0; position--) {
      const host = this.host[position];
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
    const firstPage = (high >>> 0) * TWO_TO_20 + (low >>> 12);
    const lastPage = firstPage + Math.floor(((low & LAST_OFFSET) + length - 1) / PAGE_BYTES);
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
      entries.push({
        iova: BigInt(this.startPage[position]) * 4096n + BigInt(this.startOffset[position]),
        size: BigInt(this.bytes[position]),
        host: this.host[position],
        permission: this.permission[position] as Access,
      });
    }
    return entries;
  }

  // ---- changing the table ------------------------------------------------------------------------------------

  /** The host-contiguous pieces of a range of user addresses: more than one if it spans regions. */
  #resolve(uva: bigint, size: bigint, where: () => string): Piece[] {
    const pieces: Piece[] = [];
    // Number() may round what is beyond 2^53, but that is in no region either way.
    let at = Number(uva);
    let remaining = Number(size);
    while (remaining > 0) {
      const available = this.memory.contiguousFromUva(at);
      if (available === 0) {
        const name = this.memory.guestAddressesOnly ? "guest-physical" : "user";
        throw new MemoryError("outside-memory", `${where()}: ${name} address ${hex(at)} is in no region`);
      }
      const bytes = Math.min(available, remaining);
      pieces.push({ host: this.memory.uvaToHost(at), bytes });
      at += bytes;
      remaining -= bytes;
    }
    return pieces;
  }

  /** True if one entry already says the same (QEMU repeats itself). It becomes as young as the message. */
  #isRepetition(range: Range, pieces: readonly Piece[], permission: number, serial: number): boolean {
    const position = this.#lastStartingAtOrBefore(range.page, range.offset);
    if (position < 0 || pieces.length !== 1 || this.permission[position] !== permission) return false;
    const begin = this.#offsetIn(position, range.page, range.offset);
    if (begin + range.bytes > this.bytes[position]) return false;
    if (this.host[position] + begin !== pieces[0].host) return false;
    this.#serial[position] = serial;
    return true;
  }

  /** Unmaps exactly a range: entries that reach beyond it keep the rest. */
  #cut(range: Range): void {
    const end = placeAfter(range, range.bytes);
    let from = this.#firstEndingAfter(range.page, range.offset);
    let to = this.#firstStartingAtOrAfter(end.page, end.offset);
    if (to <= from) return;
    this.generation++;
    // How many bytes the first entry has before the range, and the final one from its start to the end of the range.
    const before = this.#offsetIn(from, range.page, range.offset);
    const within = this.#offsetIn(to - 1, end.page, end.offset);
    const endsAfter = within < this.bytes[to - 1];
    if (before > 0 && endsAfter && from === to - 1) {
      this.#openGap(from);
      to++;
    }
    if (before > 0) {
      this.bytes[from] = before;
      this.#markPinnedAt(from);
      from++;
    }
    if (endsAfter) {
      to--;
      this.startPage[to] = end.page;
      this.startOffset[to] = end.offset;
      this.host[to] += within;
      this.bytes[to] -= within;
      this.#markPinnedAt(to);
    }
    this.#removeBlock(from, to);
  }

  /** How many bytes after the start of the entry at `position` an address is; negative before it. */
  #offsetIn(position: number, page: number, offset: number): number {
    // Rounded where it exceeds 2^53, which is beyond any entry.
    return (page - this.startPage[position]) * PAGE_BYTES + (offset - this.startOffset[position]);
  }

  #lastStartingAtOrBefore(page: number, offset: number): number {
    const startPage = this.startPage;
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (startPage[middle] <= page) low = middle + 1;
      else high = middle;
    }
    let position = low - 1;
    // Only entries smaller than a page share one.
    while (position >= 0 && startPage[position] === page && this.startOffset[position] > offset) position--;
    return position;
  }

  #firstStartingAtOrAfter(page: number, offset: number): number {
    const position = this.#lastStartingAtOrBefore(page, offset);
    return position >= 0 && this.#offsetIn(position, page, offset) === 0 ? position : position + 1;
  }

  #firstEndingAfter(page: number, offset: number): number {
    const position = this.#lastStartingAtOrBefore(page, offset);
    return position >= 0 && this.#offsetIn(position, page, offset) < this.bytes[position]
      ? position
      : position + 1;
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
    let lowest = Number.POSITIVE_INFINITY;
    for (let position = 0; position < this.count; position++) {
      const rank = this.#serial[position] + this.pinned[position] * PINNED_RANK;
      if (rank >= lowest) continue;
      lowest = rank;
      oldest = position;
    }
    return oldest;
  }

  #insert(start: Place, bytes: number, host: number, permission: number, serial: number): void {
    const position = this.#lastStartingAtOrBefore(start.page, start.offset) + 1;
    this.#openGap(position);
    this.startPage[position] = start.page;
    this.startOffset[position] = start.offset;
    this.bytes[position] = bytes;
    this.host[position] = host;
    this.permission[position] = permission;
    this.chain[position] = 0;
    this.#serial[position] = serial;
    this.#markPinnedAt(position);
  }

  /** Moves the entries from `position` on one place further. The one that was there is then there twice. */
  #openGap(position: number): void {
    for (const column of this.#columns) column.copyWithin(position + 1, position, this.count);
    this.count++;
  }

  #removeBlock(from: number, to: number): void {
    if (to <= from) return;
    for (const column of this.#columns) column.copyWithin(from, to, this.count);
    this.count -= to - from;
  }

  #markPinned(): void {
    this.unpinnedCapacity = Math.max(0, this.capacity - this.#pinnedPages);
    for (let position = 0; position < this.count; position++) this.#markPinnedAt(position);
  }

  #markPinnedAt(position: number): void {
    const firstPage = this.startPage[position];
    const lastByte = this.startOffset[position] + this.bytes[position] - 1;
    const lastPage = firstPage + Math.floor(lastByte / PAGE_BYTES);
    this.pinned[position] = this.#isPinned(firstPage, lastPage) ? 1 : 0;
  }

  #isPinned(firstPage: number, lastPage: number): boolean {
    for (const pin of this.#pins) {
      if (pin.firstPage <= lastPage && firstPage <= pin.lastPage) return true;
    }
    return false;
  }
}

/** The place `bytes` after the start of a range. At the very end of the space this is page 2^52, which no entry has. */
function placeAfter({ page, offset }: Place, bytes: number): Place {
  const sum = offset + bytes;
  return { page: page + Math.floor(sum / PAGE_BYTES), offset: sum % PAGE_BYTES };
}

function pageOf(iova: bigint): number {
  return Number(iova >> 12n);
}

function offsetOf(iova: bigint): number {
  return Number(iova & 0xfffn);
}

/** A range has at least one byte and its last byte is below 2^64. */
function checkRange(iova: bigint, size: bigint, where: () => string): void {
  if (size <= 0n) throw new MemoryError("empty", `${where()}: the range is empty`);
  if (iova < 0n || iova + size > TWO_TO_64) {
    throw new MemoryError("address-overflow", `${where()}: the range ends beyond 2^64`);
  }
}
