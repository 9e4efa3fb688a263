/**
 * The IOTLB of a modelled device, as Linux keeps it (drivers/vhost/iotlb.c): a mapping leads to a user address, an
 * UPDATE adds without replacing, a lookup takes the leftmost mapping, INVALIDATE drops whole mappings, the oldest
 * goes when there is no room. That differs from this project's own IOTLB (src/memory), and the differences show in
 * what a device does with a front-end that forgets to invalidate. Must not know memory, rings or messages.
 */

/** drivers/vhost/vhost.c, max_iotlb_entries; DPDK has as many (lib/vhost/iotlb.c, IOTLB_CACHE_SIZE). */
export const PEER_IOTLB_ENTRIES = 2048;

const LAST_ADDRESS = 2n ** 64n - 1n;
const HALF = 2n ** 63n;

export interface PeerMapping {
  /** First and last I/O virtual address, both included. */
  readonly start: bigint;
  readonly last: bigint;
  readonly userAddress: bigint;
  /** Bits of `Access`. */
  readonly permission: number;
}

export class PeerIotlb {
  /** Changes when a mapping went away. */
  generation = 0;
  /** By start; mappings with the same start in the order in which they came. */
  readonly #byStart: PeerMapping[] = [];
  /** In the order in which they came. */
  readonly #byAge: PeerMapping[] = [];

  constructor(readonly capacity: number = PEER_IOTLB_ENTRIES) {}

  get mappings(): readonly PeerMapping[] {
    return this.#byStart;
  }

  /** False if the range wraps around, and nothing was added (-EFAULT). */
  add(iova: bigint, size: bigint, userAddress: bigint, permission: number): boolean {
    const last = iova + size - 1n;
    if (size === 0n || last > LAST_ADDRESS) return false;
    // A size of 2^64 does not fit the field, hence two mappings.
    if (iova === 0n && last === LAST_ADDRESS) {
      this.#insert({ start: 0n, last: HALF - 1n, userAddress, permission });
      this.#insert({ start: HALF, last, userAddress: userAddress + HALF, permission });
    } else {
      this.#insert({ start: iova, last, userAddress, permission });
    }
    return true;
  }

  /** Drops every mapping that overlaps the range, the whole of it. */
  remove(iova: bigint, size: bigint): void {
    const last = iova + size - 1n;
    for (const mapping of this.#byStart.filter(({ start, last: end }) => start <= last && end >= iova))
      this.#drop(mapping);
  }

  clear(): void {
    for (const mapping of [...this.#byAge]) this.#drop(mapping);
  }

  /** The leftmost mapping with an address from `from` to `last`; it may begin after `from`. */
  first(from: bigint, last: bigint): PeerMapping | undefined {
    return this.#byStart.find((mapping) => mapping.start <= last && mapping.last >= from);
  }

  #insert(mapping: PeerMapping): void {
    // VHOST_IOTLB_FLAG_RETIRE.
    if (this.#byAge.length === this.capacity) this.#drop(this.#byAge[0]);
    const after = this.#byStart.findIndex(({ start }) => start > mapping.start);
    this.#byStart.splice(after < 0 ? this.#byStart.length : after, 0, mapping);
    this.#byAge.push(mapping);
  }

  #drop(mapping: PeerMapping): void {
    this.#byStart.splice(this.#byStart.indexOf(mapping), 1);
    this.#byAge.splice(this.#byAge.indexOf(mapping), 1);
    this.generation++;
  }
}
