/**
 * Queue 0, host to guest, as the switch sees it (`ReceiveRing`): guest buffers to take, fill and complete.
 * Hot path: allocates nothing per packet.
 */
import type { IovecList } from "../linux/iovec.js";
import { Outcome } from "../memory/address.js";
import type { DirtyLog } from "../memory/dirty-log.js";
import type { SegmentList } from "../memory/segments.js";
import type { BackendQueue } from "../vhost/backend-device.js";
import { Chain } from "../virtqueue/chain.js";
import { Pop } from "../virtqueue/device-queue.js";
import type { QueueFailure } from "../virtqueue/failure.js";
import { gather } from "../vsock/gather.js";
import { HEADER_BYTES, type PacketHeader } from "../vsock/header.js";
import type { ReceiveRing } from "../vsock/receive-ring.js";

/** Buffers held for one read, of 128 KiB: enough if each takes 1 KiB or more. A power of 2. */
const MOST_BUFFERS_AT_ONCE = 128;
const CHAIN_MASK = MOST_BUFFERS_AT_ONCE - 1;

export class GuestReceiveRing implements ReceiveRing {
  /**
   * Buffers popped, those from `#first` on. What a read does not fill is kept for the next one of the same round: a
   * read asks for more than there mostly is, and to follow a chain twice would cost as much as to use it.
   */
  readonly #chains = Array.from({ length: MOST_BUFFERS_AT_ONCE }, () => new Chain());
  #first = 0;
  #popped = 0;
  /** Payload bytes that they hold together. */
  #room = 0;
  /** What a device found wrong with a buffer, in the ring's own terms. */
  failure: QueueFailure | undefined;
  /** Set for a round while what is written is logged. */
  #dirtyLog: DirtyLog | undefined;

  constructor(readonly backend: BackendQueue) {}

  /** Makes the ring reachable; false if it is not (yet). Begins a round of `take`, which `finish` ends. */
  prepare(): boolean {
    this.#dirtyLog = this.backend.dirtyLog;
    return this.backend.queue.prepare() === Outcome.OK;
  }

  /** Ends the round, before control returns to the event loop: buffers that were not used go back to the ring. */
  finish(): void {
    if (this.#popped > 0) this.backend.queue.unpop(this.#popped);
    this.#popped = 0;
    this.#room = 0;
  }

  take(payloadBytes: number): number {
    const { queue } = this.backend;
    while (
      (this.#room < payloadBytes || this.#popped === 0) &&
      this.#popped < MOST_BUFFERS_AT_ONCE &&
      this.failure === undefined
    ) {
      const chain = this.#chains[(this.#first + this.#popped) & CHAIN_MASK];
      if (queue.pop(chain) !== Pop.CHAIN) break;
      this.#popped++;
      const capacity = chain.writable.totalBytes - HEADER_BYTES;
      if (capacity < 0) this.#refuse(chain);
      this.#room += capacity;
    }
    return this.failure === undefined ? this.#popped : 0;
  }

  #refuse(chain: Chain): void {
    this.failure = {
      code: "content-malformed",
      message:
        `queue ${this.backend.index}, chain at descriptor ${chain.head}: a receive buffer of ` +
        `${chain.writable.totalBytes} bytes, shorter than the header of ${HEADER_BYTES}`,
    };
  }

  #at(slot: number): Chain {
    return this.#chains[(this.#first + slot) & CHAIN_MASK];
  }

  capacity(slot: number): number {
    return this.#at(slot).writable.totalBytes - HEADER_BYTES;
  }

  appendPayload(slot: number, bytes: number, iovecs: IovecList): void {
    gather(this.#at(slot).writable, HEADER_BYTES, bytes, iovecs);
  }

  complete(header: PacketHeader): void {
    const chain = this.#chains[this.#first];
    const { views } = this.backend;
    views.locate(chain.writable.address[0]);
    // One segment can reach over two regions that lie side by side on the host, one view never does.
    if (chain.writable.length[0] >= HEADER_BYTES && views.data.byteLength - views.offset >= HEADER_BYTES) {
      header.write(views.data, views.offset);
    } else {
      this.#scatterHeader(chain.writable, header);
    }
    // The payload is there already.
    if (this.#dirtyLog !== undefined)
      this.#dirtyLog.markSegments(chain.writable, 0, HEADER_BYTES + header.len);
    this.backend.queue.push(chain.head, HEADER_BYTES + header.len);
    this.#room -= chain.writable.totalBytes - HEADER_BYTES;
    this.#first = (this.#first + 1) & CHAIN_MASK;
    this.#popped--;
  }

  readonly #scattered = new DataView(new ArrayBuffer(HEADER_BYTES));

  /** Writes a header that lies in several pieces. */
  #scatterHeader(writable: SegmentList, header: PacketHeader): void {
    const { views } = this.backend;
    header.write(this.#scattered, 0);
    let written = 0;
    for (let segment = 0; written < HEADER_BYTES; segment++) {
      const bytes = Math.min(writable.length[segment], HEADER_BYTES - written);
      for (let index = 0; index < bytes; index++) {
        views.locate(writable.address[segment] + index);
        views.data.setUint8(views.offset, this.#scattered.getUint8(written + index));
      }
      written += bytes;
    }
  }
}
