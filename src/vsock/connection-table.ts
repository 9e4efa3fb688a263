/**
 * Connections by (host port, guest port). Looked up for every packet, added to and removed from for every connection,
 * so none of it allocates (but for growth): buckets of connections that are linked to each other.
 */

/** What the table stores: something with both ports and a link. */
export interface PortPair {
  readonly hostPort: number;
  readonly guestPort: number;
  /** The next connection of the same bucket; the table's own. */
  nextOfBucket: PortPair | undefined;
}

const FEWEST_BUCKETS_LOG2 = 4;

export class ConnectionTable<Entry extends PortPair & { nextOfBucket: Entry | undefined }> {
  size = 0;
  #buckets: (Entry | undefined)[] = emptyBuckets(FEWEST_BUCKETS_LOG2);
  /** The upper bits of a product are the bucket: 32 less the logarithm of their number. */
  #shift = 32 - FEWEST_BUCKETS_LOG2;
  // Odd numbers that no guest knows: else it could choose ports that all fall into one bucket.
  readonly #hostFactor = randomOdd();
  readonly #guestFactor = randomOdd();

  #bucketOf(hostPort: number, guestPort: number): number {
    return (Math.imul(hostPort, this.#hostFactor) + Math.imul(guestPort, this.#guestFactor)) >>> this.#shift;
  }

  find(hostPort: number, guestPort: number): Entry | undefined {
    let entry = this.#buckets[this.#bucketOf(hostPort, guestPort)];
    while (entry !== undefined && (entry.hostPort !== hostPort || entry.guestPort !== guestPort))
      entry = entry.nextOfBucket;
    return entry;
  }

  /** Adds an entry whose pair of ports is not in the table. */
  add(entry: Entry): void {
    if (this.size === this.#buckets.length) this.#grow();
    this.#put(entry);
    this.size++;
  }

  #put(entry: Entry): void {
    const bucket = this.#bucketOf(entry.hostPort, entry.guestPort);
    entry.nextOfBucket = this.#buckets[bucket];
    this.#buckets[bucket] = entry;
  }

  #grow(): void {
    const entries = this.#inBuckets();
    this.#shift--;
    this.#buckets = emptyBuckets(32 - this.#shift);
    for (const entry of entries) this.#put(entry);
  }

  /** Removes an entry that is in the table. */
  remove(entry: Entry): void {
    const bucket = this.#bucketOf(entry.hostPort, entry.guestPort);
    const first = this.#buckets[bucket];
    if (first === entry) {
      this.#buckets[bucket] = entry.nextOfBucket;
    } else {
      let before = first;
      while (before !== undefined && before.nextOfBucket !== entry) before = before.nextOfBucket;
      if (before === undefined) return;
      before.nextOfBucket = entry.nextOfBucket;
    }
    entry.nextOfBucket = undefined;
    this.size--;
  }

  /** All entries, collected first: the caller may remove while it walks. By ports, so that the factors decide nothing. */
  all(): Entry[] {
    return this.#inBuckets().sort((a, b) => a.hostPort - b.hostPort || a.guestPort - b.guestPort);
  }

  #inBuckets(): Entry[] {
    const entries: Entry[] = [];
    for (const first of this.#buckets) {
      for (let entry = first; entry !== undefined; entry = entry.nextOfBucket) entries.push(entry);
    }
    return entries;
  }
}

function emptyBuckets<Entry>(log2: number): (Entry | undefined)[] {
  return new Array<Entry | undefined>(2 ** log2).fill(undefined);
}

function randomOdd(): number {
  return Math.floor(Math.random() * 2 ** 32) | 1;
}
