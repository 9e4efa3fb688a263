/**
 * What of a split ring is in flight, in memory that outlives the back-end (vhost-user, Inflight I/O tracking, "queue
 * region for split virtqueue"): if this process is killed, whoever takes the ring up knows which chains were taken and
 * not returned. Trusted memory: only the VMM and back-ends have it. Hot path while it is used: allocates nothing.
 *
 *     struct QueueRegionSplit { u64 features; u16 version; u16 desc_num; u16 last_batch_head; u16 used_idx;
 *                               struct { u8 inflight; u8 padding[5]; u16 next; u64 counter; } desc[]; };
 */
const HEADER_BYTES = 16;
const ENTRY_BYTES = 16;
const VERSION = 1;
/** Offsets in 16-bit words. */
const AT = { version: 4, size: 5, lastBatchHead: 6, usedIdx: 7 } as const;
const ENTRY_WORDS16 = ENTRY_BYTES / 2;
const NEXT_WORD16 = 3;
const COUNTER_WORD32 = 2;
const TWO_TO_32 = 2 ** 32;
/** "aligned to a cache line", as QEMU's library has it (INFLIGHT_ALIGNMENT). */
const ALIGNMENT = 64;

/** Bytes of the region of a queue with `size` descriptors. */
export function inflightBytes(size: number): number {
  return Math.ceil((HEADER_BYTES + size * ENTRY_BYTES) / ALIGNMENT) * ALIGNMENT;
}

export class InflightRing {
  readonly #bytes: Uint8Array;
  readonly #words16: Uint16Array;
  readonly #words32: Uint32Array;
  /** The heads popped last, for `unpopped`: as many as can be in flight. And those pushed since the last `published`. */
  readonly #order: Uint16Array;
  #orderEnd = 0;
  readonly #batch: Uint16Array;
  #batchLength = 0;
  /** For the chain that is popped next. In an array: a field that outgrows small integers would allocate. */
  readonly #counter = Float64Array.of(1);

  /** `buffer` shows the region from `offset` on, a multiple of 8. */
  constructor(
    buffer: ArrayBuffer,
    offset: number,
    readonly size: number,
  ) {
    const bytes = HEADER_BYTES + size * ENTRY_BYTES;
    this.#bytes = new Uint8Array(buffer, offset, bytes);
    this.#words16 = new Uint16Array(buffer, offset, bytes / 2);
    this.#words32 = new Uint32Array(buffer, offset, bytes / 4);
    this.#order = new Uint16Array(size);
    this.#batch = new Uint16Array(size);
  }

  /**
   * Takes the region over, as the ring starts: the heads that were taken and never returned, in the order in which they
   * were taken. `usedIdx` is the used ring's.
   */
  recover(usedIdx: number): number[] {
    const words = this.#words16;
    if (words[AT.version] !== VERSION || words[AT.size] !== this.size) {
      this.#bytes.fill(0);
      words[AT.version] = VERSION;
      words[AT.size] = this.size;
    }
    // "If the value of used_idx does not match the used_idx of used ring" the batch was returned, and not yet noted.
    const returned = (usedIdx - words[AT.usedIdx]) & 0xffff;
    for (
      let i = 0, head = words[AT.lastBatchHead];
      i < Math.min(returned, this.size) && head < this.size;
      i++
    ) {
      this.#bytes[HEADER_BYTES + head * ENTRY_BYTES] = 0;
      head = words[this.#nextOf(head)];
    }
    Atomics.store(words, AT.usedIdx, usedIdx);
    const heads: number[] = [];
    for (let head = 0; head < this.size; head++) {
      if (this.#bytes[HEADER_BYTES + head * ENTRY_BYTES] !== 0) heads.push(head);
      this.#counter[0] = Math.max(this.#counter[0], this.#counterOf(head) + 1);
    }
    return heads.sort((a, b) => this.#counterOf(a) - this.#counterOf(b));
  }

  /** Nothing is in flight, whatever the region says: the ring has been set up anew. */
  forgetAll(): void {
    for (let head = 0; head < this.size; head++) this.#bytes[HEADER_BYTES + head * ENTRY_BYTES] = 0;
  }

  popped(head: number): void {
    const at = this.#counterAt(head);
    const counter = this.#counter[0]++;
    this.#words32[at] = counter >>> 0;
    this.#words32[at + 1] = Math.floor(counter / TWO_TO_32);
    Atomics.store(this.#bytes, HEADER_BYTES + head * ENTRY_BYTES, 1);
    this.#order[this.#orderEnd] = head;
    this.#orderEnd = (this.#orderEnd + 1) & (this.size - 1);
  }

  unpopped(count: number): void {
    for (let i = 0; i < count; i++) {
      this.#orderEnd = (this.#orderEnd - 1) & (this.size - 1);
      this.#bytes[HEADER_BYTES + this.#order[this.#orderEnd] * ENTRY_BYTES] = 0;
    }
  }

  /** The chain is in the used ring; the driver cannot see it yet. */
  pushed(head: number): void {
    this.#words16[this.#nextOf(head)] = this.#words16[AT.lastBatchHead];
    Atomics.store(this.#words16, AT.lastBatchHead, head);
    this.#batch[this.#batchLength++] = head;
  }

  /** The driver can see everything that was pushed: the used ring's index is `usedIdx`. */
  published(usedIdx: number): void {
    for (let i = 0; i < this.#batchLength; i++) this.#bytes[HEADER_BYTES + this.#batch[i] * ENTRY_BYTES] = 0;
    this.#batchLength = 0;
    Atomics.store(this.#words16, AT.usedIdx, usedIdx);
  }

  #nextOf(head: number): number {
    return HEADER_BYTES / 2 + head * ENTRY_WORDS16 + NEXT_WORD16;
  }

  #counterAt(head: number): number {
    return HEADER_BYTES / 4 + (head * ENTRY_BYTES) / 4 + COUNTER_WORD32;
  }

  #counterOf(head: number): number {
    const at = this.#counterAt(head);
    return this.#words32[at] + this.#words32[at + 1] * TWO_TO_32;
  }
}
