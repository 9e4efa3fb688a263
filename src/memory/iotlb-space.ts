/**
 * I/O virtual addresses: what the IOTLB has is translated, what it lacks is noted as missing. Nothing is reachable
 * that was not mapped. Knows nothing of messages: whoever sends MISS drains the queue, whoever receives UPDATE and
 * INVALIDATE tells the IOTLB and the queue. Hot path: allocates only for a FAULT and for a missing permission.
 */
import { type Access, Outcome } from "./address.js";
import type { AddressSpace, TranslationFault } from "./address-space.js";
import { hex } from "./errors.js";
import type { Iotlb } from "./iotlb.js";
import type { IotlbTable } from "./iotlb-table.js";
import { type MissQueue, widened } from "./miss-queue.js";
import type { SegmentList } from "./segments.js";

const PAGE_BYTES = 4096;
const TWO_TO_20 = 2 ** 20;
const TWO_TO_32 = 2 ** 32;
/** The highest upper half of an address. */
const HIGHEST = TWO_TO_32 - 1;
const OFFSET_MASK = PAGE_BYTES - 1;
/** How many pages are remembered as having been asked for a wider permission. */
const MOST_ASKED_PAGES = 1024;
const NO_PAGE = -1;

/** The largest integer that V8 does not box in a variable. */
const MOST_CHAINS = 2 ** 31 - 1;

/** Distinguishes the chains of all spaces over all tables. Begins anew after 2^31 chains, which only miscounts one. */
let latestChain = 0;

export class IotlbSpace implements AddressSpace {
  readonly kind = "iova";
  fault: TranslationFault | undefined;

  readonly #table: IotlbTable;
  /** The chain whose entries are counted; 0 before the first, when nothing is. */
  #chain = 0;
  #chainEntries = 0;
  #latestMissingPage = NO_PAGE;
  /** Pages for which a wider permission was asked, and when that was forgotten last. */
  readonly #askedPages = new Map<number, number>();
  #askedAfterInvalidations = 0;

  constructor(
    readonly iotlb: Iotlb,
    readonly misses: MissQueue,
  ) {
    this.#table = iotlb.table;
  }

  get generation(): number {
    return this.iotlb.generation;
  }

  /**
   * Half of what is not pinned. A chain that needs more entries at once than there are would have its first pages
   * retired by its last ones, and loop for ever; half, so that a chain of another ring that misses meanwhile does not
   * do that to it either. Linux's limit is much the same: 1024 buffers a chain (UIO_MAXIOV). What is counted is the
   * entries that a chain uses, since one entry may hold many pages; a missing page counts as one.
   */
  get mostPagesPerChain(): number {
    return this.#table.unpinnedCapacity >> 1;
  }

  beginChain(): void {
    latestChain = latestChain === MOST_CHAINS ? 1 : latestChain + 1;
    this.#chain = latestChain;
    this.#chainEntries = 0;
    this.#latestMissingPage = NO_PAGE;
  }

  translate(low: number, high: number, length: number, access: Access, out: SegmentList): Outcome {
    const table = this.#table;
    // Signed, so that no call boxes them: `segments.ts`.
    const position = table.find(low | 0, high | 0);
    if (position >= 0 && (table.permission[position] & access) === access) {
      const pages = (high >>> 0) * TWO_TO_20 + (low >>> 12) - table.startPage[position];
      const begin = pages * PAGE_BYTES + ((low & OFFSET_MASK) - table.startOffset[position]);
      // Nearly every buffer lies in one entry.
      if (begin + length <= table.bytes[position]) {
        this.iotlb.statistics.hits++;
        if (this.#countEntry(position)) return this.#failTooMany(low, high);
        out.append(table.host[position] + begin, length);
        return Outcome.OK;
      }
    }
    return this.#walk(low | 0, high | 0, length, access, out);
  }

  /** Goes from entry to entry, and from missing page to missing page. */
  #walk(firstLow: number, firstHigh: number, length: number, access: Access, out: SegmentList): Outcome {
    if (length === 0) return Outcome.OK;
    const table = this.#table;
    const { statistics } = this.iotlb;
    let low = firstLow >>> 0;
    let high = firstHigh >>> 0;
    if (high === HIGHEST && low + length > TWO_TO_32) {
      return this.#fail("outside-memory", low, high, `${length} bytes wrap around at 2^64`);
    }
    let remaining = length;
    let outcome: Outcome = Outcome.OK;
    let position = table.find(low | 0, high | 0);
    for (;;) {
      const page = high * TWO_TO_20 + (low >>> 12);
      const offset = low & OFFSET_MASK;
      let taken = PAGE_BYTES - offset;
      if (position < 0) {
        statistics.misses++;
        outcome = Outcome.MISS;
        if (this.#countMissing(page)) return this.#failTooMany(low, high);
        if (!this.misses.note(page, offset, access)) return outcome;
      } else {
        statistics.hits++;
        const begin =
          (page - table.startPage[position]) * PAGE_BYTES + (offset - table.startOffset[position]);
        const available = Math.min(table.bytes[position] - begin, remaining);
        if (this.#countEntry(position)) return this.#failTooMany(low, high);
        if ((table.permission[position] & access) === access) {
          taken = available;
          if (outcome === Outcome.OK) out.append(table.host[position] + begin, taken);
        } else {
          const answer = this.#askForMore(position, low, high, access);
          if (answer === Outcome.FAULT) return answer;
          outcome = Outcome.MISS;
          if (this.misses.isFull) return outcome;
          // Of the entry's other pages each is asked for by itself: the answer may differ.
          taken = Math.min(taken, available);
        }
      }
      remaining -= taken;
      if (remaining <= 0) return outcome;
      const next = low + taken;
      low = next >>> 0;
      if (next >= TWO_TO_32) high++;
      position = table.findFrom(position, low | 0, high | 0);
    }
  }

  /** True if the chain has now used more entries than it may. Ring pages are not the chain's. */
  #countEntry(position: number): boolean {
    const { chain, pinned } = this.#table;
    if (this.#chain === 0 || chain[position] === this.#chain || pinned[position] === 1) return false;
    chain[position] = this.#chain;
    return ++this.#chainEntries > this.mostPagesPerChain;
  }

  /** The same for a page without an entry. One that comes up twice is counted once only if nothing is in between. */
  #countMissing(page: number): boolean {
    if (this.#chain === 0 || page === this.#latestMissingPage || this.#table.isPinnedPage(page)) return false;
    this.#latestMissingPage = page;
    return ++this.#chainEntries > this.mostPagesPerChain;
  }

  /**
   * An entry is there and does not permit the access. Linux gives up at once (-EPERM). Here the front-end is asked
   * once, for what is granted and what is wanted together: one that maps what a MISS asks for, and no more, will have
   * mapped a ring page for reading when the used ring in it has to be written. If the entry comes back no better, or
   * the question stays without an answer, it is a FAULT; an INVALIDATE makes another question possible.
   */
  #askForMore(position: number, low: number, high: number, access: Access): Outcome {
    const page = high * TWO_TO_20 + (low >>> 12);
    const granted = this.#table.permission[position];
    if (this.#askedAfterInvalidations !== this.iotlb.statistics.invalidations) {
      this.#askedAfterInvalidations = this.iotlb.statistics.invalidations;
      this.#askedPages.clear();
    }
    const asked = this.#askedPages.get(page) ?? 0;
    if ((asked & access) === access) {
      if (this.misses.isPending(page)) return Outcome.MISS;
      return this.#fail("not-permitted", low, high, describeDenial(access, granted));
    }
    const wanted = widened(granted, access);
    if (!this.misses.note(page, low & OFFSET_MASK, wanted)) return Outcome.MISS;
    if (this.#askedPages.size === MOST_ASKED_PAGES) this.#askedPages.clear();
    this.#askedPages.set(page, wanted);
    return Outcome.MISS;
  }

  #failTooMany(low: number, high: number): Outcome {
    const most = this.mostPagesPerChain;
    return this.#fail("too-many-pages", low, high, `its chain needs more than ${most} pages at once`);
  }

  #fail(code: TranslationFault["code"], low: number, high: number, why: string): Outcome {
    const iova = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    this.fault = { code, message: `I/O virtual address ${hex(iova)}: ${why}` };
    return Outcome.FAULT;
  }
}

const accessNames = ["nothing", "reading", "writing", "reading and writing"];

function describeDenial(wanted: number, granted: number): string {
  return `mapped for ${accessNames[granted]}, and asked for ${accessNames[wanted]} too it was not mapped wider`;
}
