/**
 * The IOTLB: which I/O virtual addresses the front-end has mapped, to where, and for which accesses. Obeys UPDATE and
 * INVALIDATE, follows the memory table, and keeps within its size. Owns no memory: it points into the memory table's
 * mappings. Does not send or read messages, and does not know what is missing (`miss-queue.ts`) or what a chain is
 * (`iotlb-space.ts`). How entries are kept: `iotlb-table.ts`.
 */
import { Access, type Iova } from "./address.js";
import { hex, MemoryError } from "./errors.js";
import type { GuestMemory } from "./guest-memory.js";
import { IotlbTable, placeAfter, type Range } from "./iotlb-table.js";
import type { Region } from "./region.js";

/** As many as Linux keeps (drivers/vhost/vhost.c, max_iotlb_entries). At the limit the oldest is retired. */
export const IOTLB_ENTRIES = 2048;

const TWO_TO_64 = 2n ** 64n;

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

/** Host-contiguous part of an UPDATE. */
interface Piece {
  readonly host: number;
  readonly bytes: number;
}

export class Iotlb {
  /** The entries. To be changed through the methods here only. */
  readonly table: IotlbTable;
  /** Changes when a mapping was removed, replaced or retired; not when one was only added. */
  generation = 0;
  readonly statistics: IotlbStatistics = { hits: 0, misses: 0, updates: 0, invalidations: 0, retired: 0 };
  #nextSerial = 1;

  /** One table for the life of `memory`, which it listens to: use `clear` to start anew. */
  constructor(
    readonly memory: GuestMemory,
    readonly capacity: number = IOTLB_ENTRIES,
  ) {
    this.table = new IotlbTable(capacity);
    // Regions that go away take the entries that point into them along: their host addresses are used again.
    memory.onRemoval((region) => this.flushRegion(region));
  }

  /**
   * VHOST_IOTLB_UPDATE: maps `size` bytes at `iova` to the front-end's user address `uva` (a guest-physical one under
   * GPA_ADDRESSES). What was mapped there before is replaced, and the rest of it stays: unlike Linux, where
   * duplicates stand, a lookup has one answer. Throws a MemoryError for a message that cannot be obeyed.
   */
  update(iova: Iova, size: bigint, uva: bigint, permission: number): void {
    const where = () => `UPDATE iova=${hex(iova)} size=${hex(size)} uaddr=${hex(uva)} perm=${permission}`;
    checkRange(iova, size, where);
    if (permission < Access.READ || permission > Access.READ_WRITE || !Number.isInteger(permission)) {
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
    if (this.table.cut(range)) this.generation++;
    this.#makeRoom(pieces.length);
    let covered = 0;
    for (const { host, bytes } of pieces) {
      this.table.insert(placeAfter(range, covered), bytes, host, permission, serial);
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
  invalidate(iova: Iova, size: bigint): void {
    try {
      checkRange(iova, size, () => `INVALIDATE iova=${hex(iova)} size=${hex(size)}`);
    } catch (error) {
      this.clear();
      throw error;
    }
    this.statistics.invalidations++;
    const last = iova + size - 1n;
    const from = this.table.firstEndingAfter(pageOf(iova), offsetOf(iova));
    const to = this.table.lastStartingAtOrBefore(pageOf(last), offsetOf(last)) + 1;
    if (to <= from) return;
    this.table.removeBlock(from, to);
    this.generation++;
  }

  /** Removes the entries that point into a region of the memory table. */
  flushRegion(region: Pick<Region, "host" | "size">): void {
    for (let position = this.table.count - 1; position >= 0; position--) {
      const host = this.table.host[position];
      if (host < region.host || host >= region.host + region.size) continue;
      this.table.removeBlock(position, position + 1);
      this.generation++;
    }
  }

  /** Removes every entry. A new start: what is pinned stays pinned. */
  clear(): void {
    if (this.table.count === 0) return;
    this.table.clear();
    this.generation++;
  }

  /** See `IotlbTable.pin`. */
  pin(low: number, high: number, length: number): void {
    this.table.pin(low, high, length);
  }

  unpinAll(): void {
    this.table.unpinAll();
  }

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
    const position = this.table.lastStartingAtOrBefore(range.page, range.offset);
    if (position < 0 || pieces.length !== 1 || this.table.permission[position] !== permission) return false;
    const begin = this.table.offsetIn(position, range.page, range.offset);
    if (begin + range.bytes > this.table.bytes[position]) return false;
    if (this.table.host[position] + begin !== pieces[0].host) return false;
    this.table.serial[position] = serial;
    return true;
  }

  /** Retires entries until `entries` more fit. */
  #makeRoom(entries: number): void {
    while (this.table.count + entries > this.capacity) {
      const oldest = this.table.oldest();
      this.table.removeBlock(oldest, oldest + 1);
      this.statistics.retired++;
      this.generation++;
    }
  }
}

function pageOf(iova: Iova): number {
  return Number(iova >> 12n);
}

function offsetOf(iova: Iova): number {
  return Number(iova & 0xfffn);
}

/** A range has at least one byte and its last byte is below 2^64. */
function checkRange(iova: Iova, size: bigint, where: () => string): void {
  if (size <= 0n) throw new MemoryError("empty", `${where()}: the range is empty`);
  if (iova < 0n || iova + size > TWO_TO_64) {
    throw new MemoryError("address-overflow", `${where()}: the range ends beyond 2^64`);
  }
}
