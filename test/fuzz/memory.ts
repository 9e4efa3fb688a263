/**
 * A guest's memory for fuzzing: one block, which the device reaches through an address space that can scatter, withhold
 * and protect its pages, and a shadow of it, against which it is seen what the device wrote and whether it may.
 */
import assert from "node:assert/strict";
import { Scratch } from "../../src/linux/scratch.js";
import { Access, Outcome } from "../../src/memory/address.js";
import type { AddressSpace, TranslationFault } from "../../src/memory/address-space.js";
import type { SegmentList } from "../../src/memory/segments.js";
import type { HostReader } from "../../src/virtqueue/device-queue.js";

export const PAGE = 4096;
/** High in the 64-bit space, not at a multiple of 2^32, and nowhere near where the memory is. */
export const BUS_BASE = 0xffff_fffe_ff00_0000n;

/** A range, in bytes from the start of the memory. */
export interface Span {
  readonly at: number;
  readonly bytes: number;
}

export class FuzzMemory implements AddressSpace, HostReader {
  readonly kind = "iova";
  generation = 1;
  mostPagesPerChain = Number.POSITIVE_INFINITY;
  fault: TranslationFault | undefined;
  readonly missing = new Set<number>();
  readonly readOnly = new Set<number>();
  readonly data: DataView;
  offset = 0;
  readonly bytes: Uint8Array;
  /** Where the block is, to the device. */
  readonly host: number;
  readonly #scratch: Scratch;
  readonly #shadow: Uint8Array;
  readonly #pages: number;

  /** `stride`: page `i` of the addresses is page `i * stride` (modulo their number) of the block; 1 leaves them in order. */
  constructor(
    bytes: number,
    private readonly stride = 1,
  ) {
    this.#scratch = new Scratch(bytes);
    this.host = this.#scratch.address;
    this.bytes = this.#scratch.bytes;
    this.data = this.#scratch.data;
    this.#shadow = new Uint8Array(bytes);
    this.#pages = bytes / PAGE;
  }

  /** Where byte `offset` of the addresses lies in the block. */
  placeOf(offset: number): number {
    const page = Math.floor(offset / PAGE);
    return ((page * this.stride) % this.#pages) * PAGE + (offset % PAGE);
  }

  beginChain(): void {}

  translate(low: number, high: number, length: number, access: Access, out: SegmentList): Outcome {
    const address = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    const start = Number(address - BUS_BASE);
    if (start < 0 || start + length > this.bytes.length) return this.#fail("outside-memory");
    let outcome: Outcome = Outcome.OK;
    for (let at = start; at < start + length; ) {
      const page = Math.floor(at / PAGE);
      const end = Math.min(start + length, (page + 1) * PAGE);
      if (this.missing.has(page)) outcome = Outcome.MISS;
      else if (access !== Access.READ && this.readOnly.has(page)) return this.#fail("not-permitted");
      else out.append(this.host + this.placeOf(at), end - at);
      at = end;
    }
    return outcome;
  }

  #fail(code: TranslationFault["code"]): Outcome {
    this.fault = { code, message: code };
    return Outcome.FAULT;
  }

  locate(host: number): void {
    this.offset = host - this.host;
    assert.ok(this.offset >= 0 && this.offset < this.bytes.length, "a look outside of the memory");
  }

  /** The guest writes, at addresses. */
  write(offset: number, bytes: Uint8Array): void {
    if (this.stride === 1 && offset + bytes.length <= this.bytes.length) {
      this.bytes.set(bytes, offset);
      this.#shadow.set(bytes, offset);
      return;
    }
    for (let index = 0; index < bytes.length; index++) {
      const at = this.placeOf((offset + index) % this.bytes.length);
      this.bytes[at] = bytes[index];
      this.#shadow[at] = bytes[index];
    }
  }

  read16(offset: number): number {
    return this.bytes[this.placeOf(offset)] | (this.bytes[this.placeOf(offset + 1)] << 8);
  }

  read32(offset: number): number {
    return (this.read16(offset) | (this.read16(offset + 2) << 16)) >>> 0;
  }

  /** Whatever the memory is now is the guest's doing. */
  accept(): void {
    this.#shadow.set(this.bytes);
  }

  /** Everything that changed since the last look lies in `allowed`, or somebody wrote where they must not. */
  assertWritten(allowed: readonly Span[], who: string): void {
    for (const { at, bytes } of allowed) {
      for (let offset = at; offset < at + bytes; ) {
        const end = Math.min(at + bytes, (Math.floor(offset / PAGE) + 1) * PAGE);
        const place = this.placeOf(offset);
        this.#shadow.set(this.bytes.subarray(place, place + end - offset), place);
        offset = end;
      }
    }
    if (Buffer.compare(this.bytes, this.#shadow) === 0) return;
    const at = this.bytes.findIndex((byte, index) => byte !== this.#shadow[index]);
    assert.fail(`${who} wrote at byte ${at} of the memory, which it was not given`);
  }

  /** Each segment lies within the memory. */
  assertInside({ count, address, length }: SegmentList): void {
    for (let index = 0; index < count; index++) {
      const at = address[index] - this.host;
      assert.ok(at >= 0 && at + length[index] <= this.bytes.length, "a segment outside of the memory");
    }
  }

  close(): void {
    this.#scratch.release();
  }
}
