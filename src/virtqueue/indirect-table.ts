/**
 * Reads the entries of an indirect descriptor table in guest memory (virtio 1.4, 2.7.5.3). Hot path: no allocation,
 * no system call. The table may be spread over host pages, and nothing in the specification aligns it, so an entry
 * may straddle two of them.
 */
import { Access, Outcome } from "../memory/address.js";
import type { AddressSpace } from "../memory/address-space.js";
import { SegmentList } from "../memory/segments.js";
import type { HostReader } from "./device-queue.js";
import { DESC_BYTES } from "./layout.js";

const EMPTY = new DataView(new ArrayBuffer(0));

export class IndirectTable {
  /** The entry at `offset` (see `locate`) of `data`: 16 bytes. */
  data: DataView = EMPTY;

  readonly #reader: HostReader;
  readonly #segments = new SegmentList(8);
  /** An entry that straddles two segments is put together here. */
  readonly #assembled = new DataView(new ArrayBuffer(DESC_BYTES));
  #whole = false;
  #wholeOffset = 0;
  /** Where the latest lookup ended: the segment, and the table offset of its first byte. */
  #segment = 0;
  #segmentStart = 0;

  constructor(reader: HostReader) {
    this.#reader = reader;
  }

  /** Turns to the table at `high * 2^32 + low`. On MISS all its missing pages have been noted. */
  open(space: AddressSpace, low: number, high: number, lengthBytes: number): Outcome {
    const segments = this.#segments;
    segments.clear();
    const outcome = space.translate(low, high, lengthBytes, Access.READ, segments);
    this.#segment = 0;
    this.#segmentStart = 0;
    this.#whole = false;
    if (outcome === Outcome.OK && segments.count === 1) {
      this.#reader.locate(segments.address[0]);
      this.data = this.#reader.data;
      this.#wholeOffset = this.#reader.offset;
      this.#whole = this.data.byteLength - this.#wholeOffset >= lengthBytes;
    }
    return outcome;
  }

  /** Returns where in `data` entry `index` starts, and sets `data`. The index has been checked against the length. */
  locate(index: number): number {
    if (this.#whole) return this.#wholeOffset + index * DESC_BYTES;
    const start = index * DESC_BYTES;
    this.#seek(start);
    const reader = this.#reader;
    const inSegment = start - this.#segmentStart;
    reader.locate(this.#segments.address[this.#segment] + inSegment);
    this.data = reader.data;
    const inOneSegment = this.#segments.length[this.#segment] - inSegment >= DESC_BYTES;
    if (inOneSegment && reader.data.byteLength - reader.offset >= DESC_BYTES) return reader.offset;
    for (let i = 0; i < DESC_BYTES; i++) {
      this.#seek(start + i);
      reader.locate(this.#segments.address[this.#segment] + start + i - this.#segmentStart);
      this.#assembled.setUint8(i, reader.data.getUint8(reader.offset));
    }
    this.data = this.#assembled;
    return 0;
  }

  #seek(tableOffset: number): void {
    if (tableOffset < this.#segmentStart) {
      this.#segment = 0;
      this.#segmentStart = 0;
    }
    while (tableOffset >= this.#segmentStart + this.#segments.length[this.#segment])
      this.#segmentStart += this.#segments.length[this.#segment++];
  }
}
