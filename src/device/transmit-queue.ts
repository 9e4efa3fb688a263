/**
 * Queue 1, guest to host: takes packets off the ring in bursts, hands them to the switch, and gives the buffers back.
 * Hot path: allocates nothing per packet.
 */
import { Outcome } from "../memory/address.js";
import type { SegmentList } from "../memory/segments.js";
import type { BackendQueue } from "../vhost/backend-device.js";
import { Chain } from "../virtqueue/chain.js";
import { Pop } from "../virtqueue/device-queue.js";
import type { QueueFailure } from "../virtqueue/failure.js";
import { HEADER_BYTES, PacketHeader } from "../vsock/header.js";
import { BURST_BYTES } from "../vsock/limits.js";
import type { VsockSwitch } from "../vsock/switch.js";
import type { QueueCounters } from "./metrics/queue-counters.js";

/** Packets taken before other work of the thread has its turn; Linux vhost-vsock takes as many (VHOST_VSOCK_PKT_WEIGHT). */
const MOST_PACKETS_A_BURST = 256;

export class TransmitQueue {
  readonly #chain = new Chain();
  readonly #header = new PacketHeader();
  readonly #scattered = new DataView(new ArrayBuffer(HEADER_BYTES));
  /** Packets wait in the ring because the switch could not take them; run again when it can. */
  heldBack = false;
  /** What is wrong with a packet itself, in the ring's own terms. */
  #failure: QueueFailure | undefined;
  #bytesLeft = 0;

  constructor(
    private readonly vsock: VsockSwitch,
    readonly backend: BackendQueue,
    private readonly counters: QueueCounters,
  ) {}

  /**
   * One burst: to the end of the ring, of the budget, or of what can be reached. True if only the budget ended it and
   * it should be run again after others had their turn.
   */
  run(): boolean {
    const { queue } = this.backend;
    if (queue.prepare() !== Outcome.OK) {
      if (queue.failure !== undefined) this.backend.fail(queue.failure);
      return false;
    }
    queue.disableKicks();
    const end = this.#takePackets();
    this.vsock.flush();
    queue.publish();
    if (this.backend.notify()) this.counters.transmitNotifications++;
    const failure = this.#failure ?? queue.failure;
    if (failure !== undefined) this.backend.fail(failure);
    return failure === undefined && end === "budget";
  }

  #takePackets(): "empty" | "budget" | "blocked" {
    const { queue } = this.backend;
    this.heldBack = false;
    this.#bytesLeft = BURST_BYTES;
    for (let taken = 0; taken < MOST_PACKETS_A_BURST && this.#bytesLeft > 0; ) {
      if (!this.vsock.acceptsPackets) {
        this.heldBack = true;
        return "blocked";
      }
      const found = queue.pop(this.#chain);
      if (found === Pop.CHAIN) {
        if (!this.#takePacket()) return "blocked";
        taken++;
      } else if (found !== Pop.EMPTY) {
        return "blocked";
      } else if (!queue.enableKicks()) {
        return "empty";
      }
    }
    return "budget";
  }

  /** Hands one packet over; false if it is malformed, which breaks the ring. */
  #takePacket(): boolean {
    const chain = this.#chain;
    const { readable } = chain;
    const header = this.#header;
    if (readable.totalBytes < HEADER_BYTES) {
      this.#malformed(`a packet of ${readable.totalBytes} bytes, shorter than the header of ${HEADER_BYTES}`);
      return false;
    }
    this.#readHeader(readable);
    // Buffers may be longer than the payload that the header names, never shorter.
    if (header.len > readable.totalBytes - HEADER_BYTES) {
      this.#malformed(
        `a packet whose header says ${header.len} payload bytes, in buffers that hold ${readable.totalBytes - HEADER_BYTES}`,
      );
      return false;
    }
    this.#bytesLeft -= header.len;
    const { queue } = this.backend;
    if (queue.replayed === true) this.vsock.refuseReplay(header);
    else this.vsock.receive(header, readable);
    queue.push(chain.head, 0);
    return true;
  }

  #readHeader(readable: SegmentList): void {
    const { views } = this.backend;
    views.locate(readable.address[0]);
    // One segment can reach over two regions that lie side by side on the host, one view never does.
    if (readable.length[0] >= HEADER_BYTES && views.data.byteLength - views.offset >= HEADER_BYTES) {
      this.#header.read(views.data, views.offset);
      return;
    }
    this.#gatherHeader(readable);
    this.#header.read(this.#scattered, 0);
  }

  /** Copies a header that lies in several pieces, each byte once. */
  #gatherHeader(readable: SegmentList): void {
    const { views } = this.backend;
    let filled = 0;
    for (let segment = 0; filled < HEADER_BYTES; segment++) {
      const bytes = Math.min(readable.length[segment], HEADER_BYTES - filled);
      for (let index = 0; index < bytes; index++) {
        views.locate(readable.address[segment] + index);
        this.#scattered.setUint8(filled + index, views.data.getUint8(views.offset));
      }
      filled += bytes;
    }
  }

  /** Leaves the chain in the ring: it was not consumed. */
  #malformed(what: string): void {
    this.backend.queue.unpop(1);
    const message = `queue ${this.backend.index}, chain at descriptor ${this.#chain.head}: ${what}`;
    this.#failure = { code: "content-malformed", message };
  }
}
