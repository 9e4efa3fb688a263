/**
 * Resets that wait for room in the receive queue and belong to no connection (any more): a ring of ports and types.
 */

export class ResetQueue {
  length = 0;
  #head = 0;
  readonly #entries: Uint32Array;

  /** `capacity`: the most that can ever wait; the switch's limits guarantee it. */
  constructor(readonly capacity: number) {
    this.#entries = new Uint32Array(capacity * 4);
  }

  /** Appends a reset from `sourceCid`:`sourcePort` to the guest's `guestPort`. Beyond capacity it is dropped: false. */
  push(sourceCid: number, sourcePort: number, guestPort: number, type: number): boolean {
    if (this.length === this.capacity) return false;
    const at = ((this.#head + this.length) % this.capacity) * 4;
    this.#entries[at] = sourceCid;
    this.#entries[at + 1] = sourcePort;
    this.#entries[at + 2] = guestPort;
    this.#entries[at + 3] = type;
    this.length++;
    return true;
  }

  /** Fields of the oldest reset; valid while `length` is not 0. */
  get sourceCid(): number {
    return this.#entries[this.#head * 4];
  }
  get sourcePort(): number {
    return this.#entries[this.#head * 4 + 1];
  }
  get guestPort(): number {
    return this.#entries[this.#head * 4 + 2];
  }
  get type(): number {
    return this.#entries[this.#head * 4 + 3];
  }

  shift(): void {
    this.#head = (this.#head + 1) % this.capacity;
    this.length--;
  }

  clear(): void {
    this.length = 0;
  }
}
