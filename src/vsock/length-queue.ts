/**
 * The lengths of messages that wait, first in, first out. A message of one byte must not cost four more, or a guest
 * could make this process hold five times its credit: lengths take as many bytes as they have groups of seven bits, so
 * that all of them together take no more than the messages do (an empty one takes one byte).
 */

/** To begin with; doubled when it is full, up to the capacity. */
const FIRST_BYTES = 64;

const MORE = 0x80;
const GROUP_BITS = 7;
const GROUP = 0x7f;

export class LengthQueue {
  /** How many lengths wait. */
  count = 0;
  #bytes = new Uint8Array(FIRST_BYTES);
  #head = 0;
  #used = 0;

  /** `capacity`: the most bytes that the lengths may take. */
  constructor(readonly capacity: number) {}

  /** Appends a length (below 2^31); false if there is no room for it. */
  push(length: number): boolean {
    const needed = bytesFor(length);
    if (this.#used + needed > this.capacity) return false;
    if (this.#used + needed > this.#bytes.length) this.#grow(this.#used + needed);
    for (let left = length, index = 0; index < needed; index++, left >>>= GROUP_BITS) {
      const more = index < needed - 1 ? MORE : 0;
      this.#bytes[(this.#head + this.#used++) % this.#bytes.length] = (left & GROUP) | more;
    }
    this.count++;
    return true;
  }

  #grow(least: number): void {
    const grown = new Uint8Array(Math.min(this.capacity, Math.max(2 * this.#bytes.length, least)));
    for (let index = 0; index < this.#used; index++)
      grown[index] = this.#bytes[(this.#head + index) % this.#bytes.length];
    this.#bytes = grown;
    this.#head = 0;
  }

  /** The oldest length; valid while `count` is not 0. */
  get first(): number {
    let length = 0;
    for (let index = 0; ; index++) {
      const byte = this.#bytes[(this.#head + index) % this.#bytes.length];
      length |= (byte & GROUP) << (GROUP_BITS * index);
      if ((byte & MORE) === 0) return length;
    }
  }

  /** Takes the oldest length away. */
  shift(): void {
    const taken = bytesFor(this.first);
    this.#head = (this.#head + taken) % this.#bytes.length;
    this.#used -= taken;
    this.count--;
  }
}

function bytesFor(length: number): number {
  let bytes = 1;
  for (let left = length >>> GROUP_BITS; left > 0; left >>>= GROUP_BITS) bytes++;
  return bytes;
}
