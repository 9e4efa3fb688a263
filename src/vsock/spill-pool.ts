/**
 * Empty spill rings that are kept for the next connection of this thread that needs one: to map and to fault in a new
 * one costs more than what it is for. Sizes are kept apart, and together within one bound; a size that is given back
 * displaces others, so that what is kept is what is in use.
 */
import { SpillRing } from "./spill-ring.js";

export class SpillPool {
  readonly #spare = new Map<number, SpillRing[]>();
  #bytes = 0;

  constructor(readonly mostBytes: number) {}

  /** What the rings that are kept take. */
  get bytes(): number {
    return this.#bytes;
  }

  /** An empty ring. Throws where there is no memory for it. */
  take(capacity: number): SpillRing {
    const kept = this.#spare.get(capacity)?.pop();
    if (kept === undefined) return new SpillRing(capacity);
    this.#bytes -= kept.mappedBytes;
    return kept;
  }

  /** What waits in the ring is given up, and the caller does not use it any more. */
  giveBack(ring: SpillRing): void {
    ring.clear();
    if (!this.#makeRoom(ring)) {
      ring.unmap();
      return;
    }
    const rings = this.#spare.get(ring.capacity);
    if (rings === undefined) this.#spare.set(ring.capacity, [ring]);
    else rings.push(ring);
    this.#bytes += ring.mappedBytes;
  }

  #makeRoom({ capacity, mappedBytes }: SpillRing): boolean {
    if (mappedBytes > this.mostBytes) return false;
    for (const [size, rings] of this.#spare) {
      while (size !== capacity && this.#bytes + mappedBytes > this.mostBytes) {
        const ring = rings.pop();
        if (ring === undefined) {
          this.#spare.delete(size);
          break;
        }
        this.#bytes -= ring.mappedBytes;
        ring.unmap();
      }
    }
    return this.#bytes + mappedBytes <= this.mostBytes;
  }
}

/** Of this thread: a VM's, or that of all VMs of a benchmark or test. */
export const spillPool = new SpillPool(16 * 1024 * 1024);
