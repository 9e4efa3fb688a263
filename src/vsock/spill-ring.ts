/**
 * Where guest bytes wait when the host socket is full: a ring of the size that we advertise as `buf_alloc`, so that
 * a guest within its credit always fits and no connection ever holds the one transmit queue. Held only while bytes
 * wait, so that a connection that was slow once keeps no memory (`spill-pool.ts`). Bytes enter by memcpy and leave by writev,
 * or by memcpy to a sibling guest; none is touched in JavaScript.
 */
import { IovecList } from "../linux/iovec.js";
import { copyMemory, mapAnonymous, PAGE_BYTES, roundUp, unmap } from "../linux/mapping.js";

// Shared by all rings of the thread: filled and used within one call.
const pieces = new IovecList(2);

export class SpillRing {
  readonly #address: number;
  /** What it takes: whole pages. */
  readonly mappedBytes: number;
  #head = 0;
  /** Bytes waiting. */
  length = 0;

  /** Throws where there is no memory for it. */
  constructor(readonly capacity: number) {
    this.mappedBytes = roundUp(capacity, PAGE_BYTES);
    this.#address = mapAnonymous(this.mappedBytes);
  }

  /** Copies what follows the first `skip` bytes of `batch`. The caller has checked that it fits (by credit). */
  appendBatch(batch: IovecList, skip: number): void {
    let left = skip;
    for (let index = 0; index < batch.count; index++) {
      const length = batch.length(index);
      if (left < length) this.append(batch.address(index) + left, length - left);
      left = Math.max(0, left - length);
    }
  }

  /** Copies `length` bytes from host address `source`. The caller has checked that they fit (by credit). */
  append(source: number, length: number): void {
    if (this.length + length > this.capacity) {
      throw new RangeError(`spill ring of ${this.capacity} bytes: ${this.length} waiting, ${length} more`);
    }
    const tail = (this.#head + this.length) % this.capacity;
    const first = Math.min(length, this.capacity - tail);
    copyMemory(this.#address + tail, source, first);
    if (first < length) copyMemory(this.#address, source + first, length - first);
    this.length += length;
  }

  /** Writes what waits, or its first `most` bytes, to `fd`: bytes taken (perhaps fewer), or `-errno`. */
  writeTo(fd: number, most: number = this.length): number {
    pieces.clear();
    const first = Math.min(most, this.capacity - this.#head);
    pieces.push(this.#address + this.#head, first);
    if (first < most) pieces.push(this.#address, most - first);
    const written = pieces.writeTo(fd);
    if (written > 0) {
      this.#head = (this.#head + written) % this.capacity;
      this.length -= written;
    }
    return written;
  }

  /** Copies the oldest bytes into all of `room`. The caller has checked that as many wait. */
  takeInto(room: IovecList): void {
    for (let index = 0; index < room.count; index++) {
      const length = room.length(index);
      const first = Math.min(length, this.capacity - this.#head);
      copyMemory(room.address(index), this.#address + this.#head, first);
      if (first < length) copyMemory(room.address(index) + first, this.#address, length - first);
      this.#head = (this.#head + length) % this.capacity;
    }
    this.length -= room.totalBytes;
  }

  /** What waits is given up. */
  clear(): void {
    this.length = 0;
    this.#head = 0;
  }

  /** The ring is not to be used again. */
  unmap(): void {
    unmap(this.#address, this.mappedBytes);
  }
}
