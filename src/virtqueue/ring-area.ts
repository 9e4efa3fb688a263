/**
 * One of the three areas of a split queue (descriptor table, avail ring, used ring), reachable through typed arrays.
 *
 * An area that is contiguous in host memory is one view. Behind an IOTLB it may be spread over pages that lie
 * anywhere; then there is a view per page. Either way element access is `pages[offset >>> shift][(offset & mask) …]`
 * with `offset` counted from `base`: one load more than a flat array, and one path for both cases. Resolving again
 * keeps the views if nothing moved: a vIOMMU in strict mode changes the generation with every buffer.
 */
import { view } from "../linux/mapping.js";
import { type Access, Outcome } from "../memory/address.js";
import type { AddressSpace } from "../memory/address-space.js";
import { SegmentList } from "../memory/segments.js";
import type { QueueFailureCode } from "./failure.js";

/** The smallest page that any IOMMU here maps, and the unit that a scattered area is cut into. */
const PAGE_SHIFT = 12;
const PAGE_BYTES = 2 ** PAGE_SHIFT;
/** Puts every offset into `pages[0]`: the largest area is 512 KiB. */
const ONE_PAGE_SHIFT = 30;

export class RingArea {
  /** Element views of 16 and of 32 bits over the same pages. Empty while the area is not resolved. */
  words16: Uint16Array[] = [];
  words32: Uint32Array[] = [];
  shift = ONE_PAGE_SHIFT;
  mask = 2 ** ONE_PAGE_SHIFT - 1;
  /** What to add to an offset within the area before it is split into page and offset. */
  base = 0;
  /** Why `resolve` ended in FAULT. */
  problem: { readonly code: QueueFailureCode; readonly text: string } | undefined;

  readonly #low: number;
  readonly #high: number;
  #resolved = new SegmentList(4);
  #candidate = new SegmentList(4);

  constructor(
    /** For messages: "descriptor table", "avail ring", "used ring". */
    readonly name: string,
    readonly address: bigint,
    readonly lengthBytes: number,
    readonly alignment: number,
    readonly access: Access,
    /** Width of the area's elements as they are accessed: 2 or 4. Host addresses have to be aligned to it. */
    readonly elementBytes: 2 | 4,
  ) {
    this.#low = Number(address & 0xffffffffn);
    this.#high = Number((address >> 32n) & 0xffffffffn);
  }

  /** Translates the area and renews its views if it moved. On MISS and FAULT no view is left. */
  resolve(space: AddressSpace): Outcome {
    if (this.#low % this.alignment !== 0)
      return this.#fail("ring-misaligned", `is not aligned to ${this.alignment} bytes (virtio 1.4, 2.7)`);
    const found = this.#candidate;
    found.clear();
    const outcome = space.translate(this.#low, this.#high, this.lengthBytes, this.access, found);
    if (outcome === Outcome.MISS) this.drop();
    if (outcome === Outcome.FAULT)
      return this.#fail("ring-unreachable", space.fault?.message ?? "cannot be reached");
    if (outcome !== Outcome.OK) return outcome;
    if (sameSegments(found, this.#resolved)) return Outcome.OK;
    const problem = found.count === 1 ? this.#viewWhole(found) : this.#viewPages(found);
    if (problem !== undefined) return this.#fail("ring-torn", problem);
    this.#candidate = this.#resolved;
    this.#resolved = found;
    return Outcome.OK;
  }

  /** Where the area lies on the host. */
  get resolved(): SegmentList {
    return this.#resolved;
  }

  /** Reads the 16-bit field at `offset`: acquire, sequentially consistent. */
  load16(offset: number): number {
    const at = this.base + offset;
    return Atomics.load(this.words16[at >>> this.shift], (at & this.mask) >>> 1);
  }

  /** Writes the 16-bit field at `offset`: release, and a full fence before any `load16` after it. */
  store16(offset: number, value: number): void {
    const at = this.base + offset;
    Atomics.store(this.words16[at >>> this.shift], (at & this.mask) >>> 1, value);
  }

  /** Reads the 32-bit field at `offset`, as `load16`. Only of areas with elements of 4 bytes. */
  load32(offset: number): number {
    const at = this.base + offset;
    return Atomics.load(this.words32[at >>> this.shift], (at & this.mask) >>> 2);
  }

  /** Writes the 32-bit field at `offset`, as `store16`. */
  store32(offset: number, value: number): void {
    const at = this.base + offset;
    Atomics.store(this.words32[at >>> this.shift], (at & this.mask) >>> 2, value);
  }

  /** Forgets the views: what they show is no longer ours to touch. */
  drop(): void {
    this.words16 = [];
    this.words32 = [];
    this.#resolved.clear();
  }

  #fail(code: QueueFailureCode, text: string): Outcome {
    this.drop();
    this.problem = { code, text: `the ${this.name} at 0x${this.address.toString(16)} ${text}` };
    return Outcome.FAULT;
  }

  #viewWhole(found: SegmentList): string | undefined {
    const host = found.address[0];
    // A misaligned access is not atomic, and an Atomics.store across a cache line stalls the machine.
    if (host % this.elementBytes !== 0) return `is mapped to a host address that is not aligned`;
    this.words16 = [];
    this.words32 = [];
    this.shift = ONE_PAGE_SHIFT;
    this.mask = 2 ** ONE_PAGE_SHIFT - 1;
    this.base = 0;
    this.#addViews(host, this.lengthBytes);
    return undefined;
  }

  #viewPages(found: SegmentList): string | undefined {
    this.words16 = [];
    this.words32 = [];
    this.shift = PAGE_SHIFT;
    this.mask = PAGE_BYTES - 1;
    this.base = this.#low % PAGE_BYTES;
    let segment = 0;
    let segmentStart = 0;
    for (let page = 0; page * PAGE_BYTES < this.base + this.lengthBytes; page++) {
      const start = Math.max(0, page * PAGE_BYTES - this.base);
      const end = Math.min(this.lengthBytes, (page + 1) * PAGE_BYTES - this.base);
      while (start >= segmentStart + found.length[segment]) segmentStart += found.length[segment++];
      const host = found.address[segment] + start - segmentStart;
      const offsetInPage = (this.base + start) % PAGE_BYTES;
      if (end > segmentStart + found.length[segment])
        return `changes its mapping within a page, at byte ${segmentStart + found.length[segment]}`;
      if (host % PAGE_BYTES !== offsetInPage)
        return `has a page at byte ${start} that is mapped to another offset within its page`;
      // From the start of the page, so that offsets need no case for the first one.
      this.#addViews(host - offsetInPage, offsetInPage + end - start);
    }
    return undefined;
  }

  #addViews(host: number, lengthBytes: number): void {
    const buffer = view(host, lengthBytes);
    this.words16.push(new Uint16Array(buffer, 0, lengthBytes >>> 1));
    this.words32.push(new Uint32Array(buffer, 0, lengthBytes >>> 2));
  }
}

function sameSegments(a: SegmentList, b: SegmentList): boolean {
  if (a.count !== b.count) return false;
  for (let i = 0; i < a.count; i++)
    if (a.address[i] !== b.address[i] || a.length[i] !== b.length[i]) return false;
  return true;
}
