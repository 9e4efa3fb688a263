/**
 * Sorted, non-overlapping ranges of addresses below 2^53, each with the address that it maps to. The memory table
 * keeps three: by guest-physical and by user address, and by the address in this process. Looking up allocates nothing.
 */

export class RangeTable {
  count = 0;
  /** First address of each range, ascending. */
  readonly start: Float64Array;
  /** Address after the last of each range. */
  readonly end: Float64Array;
  /** What `start` maps to. */
  readonly target: Float64Array;
  /** The address that `lookUp` takes; V8 would box it as an argument (`segments.ts`). */
  readonly address = new Float64Array(1);
  /** Where the latest lookup found its range: most lookups are near the one before. */
  #latest = 0;

  constructor(readonly capacity: number) {
    this.start = new Float64Array(capacity);
    this.end = new Float64Array(capacity);
    this.target = new Float64Array(capacity);
  }

  /** The index of the range that contains `address`, or -1. */
  find(address: number): number {
    this.address[0] = address;
    return this.lookUp();
  }

  /** As `find`, of the address in `address[0]`. */
  lookUp(): number {
    const address = this.address[0];
    const latest = this.#latest;
    if (latest < this.count && address >= this.start[latest] && address < this.end[latest]) return latest;
    const index = this.#lastStartingAtOrBefore();
    if (index < 0 || address >= this.end[index]) return -1;
    this.#latest = index;
    return index;
  }

  /** What `address` maps to, or -1. */
  map(address: number): number {
    const index = this.find(address);
    return index < 0 ? -1 : this.target[index] + (address - this.start[index]);
  }

  /** Adds a range. The caller has made sure that it overlaps none and that there is room. */
  insert(start: number, end: number, target: number): void {
    this.address[0] = start;
    const index = this.#lastStartingAtOrBefore() + 1;
    for (const column of [this.start, this.end, this.target]) {
      column.copyWithin(index + 1, index, this.count);
    }
    this.start[index] = start;
    this.end[index] = end;
    this.target[index] = target;
    this.count++;
  }

  /** Removes the range that starts at `start`, if there is one. */
  remove(start: number): void {
    this.address[0] = start;
    const index = this.#lastStartingAtOrBefore();
    if (index < 0 || this.start[index] !== start) return;
    for (const column of [this.start, this.end, this.target]) {
      column.copyWithin(index, index + 1, this.count);
    }
    this.count--;
  }

  /** Of `address[0]`. */
  #lastStartingAtOrBefore(): number {
    const address = this.address[0];
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.start[middle] <= address) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
