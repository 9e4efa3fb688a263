/**
 * Queue 2, device to guest: tells a driver that goes on running that its connections are gone (VIRTIO 1.4, 5.10.6.7.1,
 * VIRTIO_VSOCK_EVENT_TRANSPORT_RESET). Not every front-end hands this queue over: QEMU's vhost-user-vsock keeps it.
 * When an event is due is decided elsewhere (vsock-backend.ts).
 */
import { Outcome } from "../memory/address.js";
import type { BackendQueue } from "../vhost/backend-device.js";
import { Chain } from "../virtqueue/chain.js";
import { Pop } from "../virtqueue/device-queue.js";
import type { QueueFailure } from "../virtqueue/failure.js";

/** `struct virtio_vsock_event { le32 id; }` */
const EVENT_BYTES = 4;
const TRANSPORT_RESET = 0;

export class EventQueue {
  readonly #chain = new Chain();
  /** `avail.idx` when the event was written. */
  #availAtEvent = 0;

  constructor(readonly backend: BackendQueue) {}

  /**
   * Writes TRANSPORT_RESET into the guest's next buffer. "waits": there is none, or it is not mapped yet; the driver
   * will kick. "broken": the driver has put something there that is no event buffer, and the ring has been stopped.
   */
  writeReset(): "written" | "waits" | "broken" {
    const { backend } = this;
    const { queue } = backend;
    if (queue.prepare() !== Outcome.OK) return this.#unreachable();
    let popped = queue.pop(this.#chain);
    if (popped === Pop.EMPTY && queue.enableKicks()) popped = queue.pop(this.#chain);
    if (popped !== Pop.CHAIN) return this.#unreachable();
    const { writable, head } = this.#chain;
    if (writable.totalBytes < EVENT_BYTES) {
      queue.unpop(1);
      return this.#fail({
        code: "content-malformed",
        message:
          `queue ${backend.index}, chain at descriptor ${head}: an event buffer of ${writable.totalBytes} bytes, ` +
          `shorter than an event of ${EVENT_BYTES}`,
      });
    }
    this.#writeEvent();
    backend.dirtyLog?.markSegments(writable, 0, EVENT_BYTES);
    queue.push(head, EVENT_BYTES);
    queue.publish();
    this.#availAtEvent = this.#availIdx;
    backend.notify();
    return "written";
  }

  /**
   * Whether the driver has given a buffer since: it does that after it has handled the event (Linux,
   * `virtio_transport_event_work`). It may not kick for it, since it has other buffers there.
   */
  get isHandled(): boolean {
    return this.backend.queue.prepare() === Outcome.OK && this.#availIdx !== this.#availAtEvent;
  }

  get #availIdx(): number {
    const { queue } = this.backend;
    return (queue.nextAvail + queue.available()) & 0xffff;
  }

  /** The buffer may lie in pieces. */
  #writeEvent(): void {
    const { views } = this.backend;
    const { address, length } = this.#chain.writable;
    let written = 0;
    for (let segment = 0; written < EVENT_BYTES; segment++) {
      for (let index = 0; index < length[segment] && written < EVENT_BYTES; index++, written++) {
        views.locate(address[segment] + index);
        views.data.setUint8(views.offset, (TRANSPORT_RESET >>> (8 * written)) & 0xff);
      }
    }
  }

  #unreachable(): "waits" | "broken" {
    const { failure } = this.backend.queue;
    return failure === undefined ? "waits" : this.#fail(failure);
  }

  #fail(failure: QueueFailure): "broken" {
    this.backend.fail(failure);
    return "broken";
  }
}
