/**
 * A list of host memory segments, the result of translating guest buffers. Hot path: allocates only when it grows,
 * which a steady load does not make it do.
 *
 * V8 boxes a number beyond 31 bits for each call that takes or returns it, unless it inlines the call, which it does
 * for certain only with functions of a few instructions (27 bytes of bytecode in V8 11). So on the hot path such functions
 * put addresses into a cell of a typed array, from where the longer ones take them.
 */

/** The host address that is being appended. */
const place = new Float64Array(1);

const TWO_TO_31 = 2 ** 31;

export class SegmentList {
  count = 0;
  /** Sum of all lengths, in bytes. */
  totalBytes = 0;
  address: Float64Array;
  length: Uint32Array;

  constructor(initialCapacity = 64) {
    this.address = new Float64Array(initialCapacity);
    this.length = new Uint32Array(initialCapacity);
  }

  clear(): void {
    this.count = 0;
    this.totalBytes = 0;
  }

  /** Appends `length` bytes at host address `address`, joining them to the last segment if they follow it. */
  append(address: number, length: number): void {
    place[0] = address;
    this.appendPlaced(length);
  }

  private appendPlaced(length: number): void {
    if (length === 0) return;
    const address = place[0];
    this.totalBytes += length;
    const last = this.count - 1;
    if (
      last >= 0 &&
      this.address[last] + this.length[last] === address &&
      this.length[last] + length < TWO_TO_31
    ) {
      this.length[last] += length;
      return;
    }
    if (this.count === this.address.length) this.#grow();
    this.address[this.count] = address;
    this.length[this.count] = length;
    this.count++;
  }

  #grow(): void {
    const address = new Float64Array(this.address.length * 2);
    const length = new Uint32Array(this.length.length * 2);
    address.set(this.address);
    length.set(this.length);
    this.address = address;
    this.length = length;
  }
}
