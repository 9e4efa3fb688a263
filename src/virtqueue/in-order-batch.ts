/**
 * What a driver keeps when VIRTIO_F_IN_ORDER was negotiated (virtio 1.4, 2.7.9 and 2.8.8): the order in which chains
 * were made available, and how far the used entry read last reaches. The device "can notify the use of a batch of
 * buffers … by only writing out a single used entry"; those before the last were then used in full.
 */
export class InOrderBatch {
  /** How many bytes the device wrote into the chain taken last. */
  length = 0;

  /** Heads in order, in a ring, and by head how many bytes the device may write there. */
  readonly #heads: Uint16Array;
  readonly #writable: Float64Array;
  #first = 0;
  #count = 0;
  /** The chain at which the open batch ends, -1: none is open. */
  #last = -1;
  #lastLength = 0;

  constructor(size: number) {
    this.#heads = new Uint16Array(size);
    this.#writable = new Float64Array(size);
  }

  /** A used entry was read, and not every chain that it stands for was taken. */
  get isOpen(): boolean {
    return this.#last >= 0;
  }

  /** A chain was made available. */
  added(head: number, writableBytes: number): void {
    this.#heads[(this.#first + this.#count) % this.#heads.length] = head;
    this.#writable[head] = writableBytes;
    this.#count++;
  }

  /** A used entry names `head`, which is in flight. */
  open(head: number, length: number): void {
    this.#last = head;
    this.#lastLength = length;
  }

  /** The next chain of the open batch. */
  take(): number {
    const head = this.#heads[this.#first];
    this.#first = (this.#first + 1) % this.#heads.length;
    this.#count--;
    const isLast = head === this.#last;
    this.length = isLast ? this.#lastLength : this.#writable[head];
    if (isLast) this.#last = -1;
    return head;
  }
}
