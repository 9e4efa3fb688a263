/**
 * The entries of the IOTLB as a sorted table: finding, putting in, cutting out, and which one is the oldest. Does not
 * know where entries come from, nor why they go (`iotlb.ts`).
 *
 * An entry is a range of any bytes, as vhost has them: where it starts and how many bytes it has, never where it ends,
 * so that nothing overflows at 2^64. An address is a page number (exact as a double: below 2^52) and an offset in the
 * page. Entries never overlap and are kept sorted, in columns, so that a search reads one array; putting one in moves
 * those behind it, a few microseconds at 2048 entries against some twenty for the message that brought it.
 */
import type { Access, Iova } from "./address.js";

const PAGE_BYTES = 4096;
const LAST_OFFSET = PAGE_BYTES - 1;
const TWO_TO_20 = 2 ** 20;
/** Where pages were found last, by the lowest bits of their numbers: a power of 2, with room for pages that lie apart. */
const HINTS = 4096;
const HINT_MASK = HINTS - 1;
/** Added to the serial of a pinned entry, so that it counts as younger than any other. */
const PINNED_RANK = 2 ** 52;

/** One entry, for logs and tests. */
export interface IotlbEntry {
  readonly iova: Iova;
  readonly size: bigint;
  readonly host: number;
  readonly permission: Access;
}

/** An address of the 64-bit space. */
export interface Place {
  readonly page: number;
  readonly offset: number;
}

export interface Range extends Place {
  readonly bytes: number;
}

interface PinnedRange {
  readonly firstPage: number;
  readonly lastPage: number;
}

export class IotlbTable {
  /** How many entries there are. */
  count = 0;
  /** How many entries are left for what is not pinned. */
  unpinnedCapacity: number;

  // The columns, for others to read only: the hot path of `iotlb-space.ts` avoids calls that would box a double.
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
  /** The chain that was last counted to use the entry: `IotlbSpace` writes it. */
  readonly chain: Uint32Array;
  /** Which UPDATE brought the entry: the lowest is the oldest. */
  readonly serial: Float64Array;
  readonly #columns: readonly (Float64Array | Uint32Array | Uint16Array | Uint8Array)[];
  readonly #hints = new Uint16Array(HINTS);
  #pins: PinnedRange[] = [];
  #pinnedPages = 0;

  constructor(readonly capacity: number) {
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
    this.serial = new Float64Array(slots);
    this.#columns = [
      this.startPage,
      this.startOffset,
      this.bytes,
      this.host,
      this.permission,
      this.pinned,
      this.chain,
      this.serial,
    ];
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
    const position = this.lastStartingAtOrBefore(page, offset);
    if (position < 0 || this.offsetIn(position, page, offset) >= this.bytes[position]) return -1;
    this.#hints[slot] = position;
    return position;
  }

  /**
   * As `find`, for an address that may be the first one after the entry at `position` (or -1): a buffer of several pages
   * goes from entry to entry. Hot path: allocates nothing.
   */
  findFrom(position: number, low: number, high: number): number {
    const next = position + 1;
    if (next > 0 && next < this.count && this.startOffset[next] === (low & LAST_OFFSET)) {
      if (this.startPage[next] === (high >>> 0) * TWO_TO_20 + (low >>> 12)) return next;
    }
    return this.find(low, high);
  }

  /** How many bytes after the start of the entry at `position` an address is; negative before it. */
  offsetIn(position: number, page: number, offset: number): number {
    // Rounded where it exceeds 2^53, which is beyond any entry.
    return (page - this.startPage[position]) * PAGE_BYTES + (offset - this.startOffset[position]);
  }

  /** The position of the last entry that does not start after an address, or -1. */
  lastStartingAtOrBefore(page: number, offset: number): number {
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

  /** The position of the first entry that does not start before an address; `count` if there is none. */
  firstStartingAtOrAfter(page: number, offset: number): number {
    const position = this.lastStartingAtOrBefore(page, offset);
    return position >= 0 && this.offsetIn(position, page, offset) === 0 ? position : position + 1;
  }

  /** The position of the first entry that contains an address or lies after it; `count` if there is none. */
  firstEndingAfter(page: number, offset: number): number {
    const position = this.lastStartingAtOrBefore(page, offset);
    return position >= 0 && this.offsetIn(position, page, offset) < this.bytes[position]
      ? position
      : position + 1;
  }

  /** Puts in an entry. The caller has cut out its range and made room. */
  insert(start: Place, bytes: number, host: number, permission: number, serial: number): void {
    const position = this.lastStartingAtOrBefore(start.page, start.offset) + 1;
    this.#openGap(position);
    this.startPage[position] = start.page;
    this.startOffset[position] = start.offset;
    this.bytes[position] = bytes;
    this.host[position] = host;
    this.permission[position] = permission;
    this.chain[position] = 0;
    this.serial[position] = serial;
    this.#markPinnedAt(position);
  }

  /** Unmaps exactly a range: entries that reach beyond it keep the rest. True if anything was mapped there. */
  cut(range: Range): boolean {
    const end = placeAfter(range, range.bytes);
    let from = this.firstEndingAfter(range.page, range.offset);
    let to = this.firstStartingAtOrAfter(end.page, end.offset);
    if (to <= from) return false;
    // How many bytes the first entry has before the range, and the final one from its start to the end of the range.
    const before = this.offsetIn(from, range.page, range.offset);
    const within = this.offsetIn(to - 1, end.page, end.offset);
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
    this.removeBlock(from, to);
    return true;
  }

  /** Removes the entries at `from` and after it, up to but not including `to`. */
  removeBlock(from: number, to: number): void {
    if (to <= from) return;
    for (const column of this.#columns) column.copyWithin(from, to, this.count);
    this.count -= to - from;
  }

  /** Removes every entry. */
  clear(): void {
    this.count = 0;
  }

  /** The position of the oldest entry that is not pinned; of the oldest at all if every one is. */
  oldest(): number {
    let oldest = 0;
    let lowest = Number.POSITIVE_INFINITY;
    for (let position = 0; position < this.count; position++) {
      const rank = this.serial[position] + this.pinned[position] * PINNED_RANK;
      if (rank >= lowest) continue;
      lowest = rank;
      oldest = position;
    }
    return oldest;
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

  /** Moves the entries from `position` on one place further. The one that was there is then there twice. */
  #openGap(position: number): void {
    for (const column of this.#columns) column.copyWithin(position + 1, position, this.count);
    this.count++;
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
export function placeAfter({ page, offset }: Place, bytes: number): Place {
  const sum = offset + bytes;
  return { page: page + Math.floor(sum / PAGE_BYTES), offset: sum % PAGE_BYTES };
}
