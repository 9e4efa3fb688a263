/**
 * Hands out runs of equal units by number, first fit, and takes them back: guest pages, slots of a bounce pool.
 * Knows nothing of what a unit is.
 */

export class RunAllocator {
  /** Free runs in order, never adjacent: `#starts[i]` to `#starts[i] + #counts[i] - 1`. */
  readonly #starts: number[];
  readonly #counts: number[];
  #free: number;

  constructor(readonly units: number) {
    this.#starts = [0];
    this.#counts = [units];
    this.#free = units;
  }

  get free(): number {
    return this.#free;
  }

  /** The first unit of a run of `count`, which is a multiple of `alignment`, or -1 if there is no such run. */
  take(count: number, alignment = 1): number {
    for (let run = 0; run < this.#starts.length; run++) {
      const start = this.#starts[run];
      const first = Math.ceil(start / alignment) * alignment;
      const end = start + this.#counts[run];
      if (first + count > end) continue;
      const before = first - start;
      const after = end - first - count;
      this.#starts.splice(run, 1);
      this.#counts.splice(run, 1);
      if (after > 0) this.#insert(run, first + count, after);
      if (before > 0) this.#insert(run, start, before);
      this.#free -= count;
      return first;
    }
    return -1;
  }

  /** Gives back a run that `take` returned. Throws if some of it is free already: our mistake. */
  give(first: number, count: number): void {
    let at = 0;
    while (at < this.#starts.length && this.#starts[at] < first) at++;
    const previousEnd = at > 0 ? this.#starts[at - 1] + this.#counts[at - 1] : 0;
    const nextStart = at < this.#starts.length ? this.#starts[at] : this.units;
    if (first < previousEnd || first + count > nextStart)
      throw new Error(`units ${first} to ${first + count - 1} were not all taken`);
    this.#free += count;
    this.#insert(at, first, count);
    this.#joinWithNext(at);
    if (at > 0) this.#joinWithNext(at - 1);
  }

  #insert(at: number, start: number, count: number): void {
    this.#starts.splice(at, 0, start);
    this.#counts.splice(at, 0, count);
  }

  #joinWithNext(at: number): void {
    if (at + 1 >= this.#starts.length) return;
    if (this.#starts[at] + this.#counts[at] !== this.#starts[at + 1]) return;
    this.#counts[at] += this.#counts[at + 1];
    this.#starts.splice(at + 1, 1);
    this.#counts.splice(at + 1, 1);
  }
}
