/**
 * Bytes of one connection on their way into several guest buffers: where in them they go, and the headers once they are
 * there. For what knows beforehand how many bytes there are. Hot path: allocates nothing per packet.
 */
import type { IovecList } from "../linux/iovec.js";
import { type Connection, Due } from "./connection.js";
import { Op, PacketHeader } from "./header.js";
import { addressPacket } from "./outgoing.js";
import type { ReceiveRing } from "./receive-ring.js";

/** The payload that a Linux guest's receive buffer holds on x86-64; the first guess of a packet's size. */
export const USUAL_PAYLOAD_BYTES = 3732;

/** Fills `iovecs` with the payload parts of the `buffers` taken, up to `wanted` bytes or as far as they go. */
export function takeRoom(ring: ReceiveRing, buffers: number, wanted: number, iovecs: IovecList): void {
  iovecs.clear();
  for (let slot = 0; slot < buffers && iovecs.totalBytes < wanted && !iovecs.isFull; slot++) {
    const bytes = Math.min(ring.capacity(slot), wanted - iovecs.totalBytes);
    if (bytes > 0) ring.appendPayload(slot, bytes, iovecs);
  }
}

export class PacketRun {
  /** What a buffer of this guest held last. */
  usualPayload = USUAL_PAYLOAD_BYTES;
  readonly #header = new PacketHeader();
  readonly #guestCid: number;

  constructor(guestCid: number) {
    this.#guestCid = guestCid;
  }

  /**
   * Hands `bytes` that are in the buffers taken to the guest, the last of them with `endFlags` (`MessageEnd`), and returns
   * how many packets that made: one at least, which an empty message is as well.
   */
  complete(ring: ReceiveRing, connection: Connection, bytes: number, endFlags: number): number {
    const header = this.#header;
    addressPacket(header, this.#guestCid, connection);
    let packets = 0;
    let left = bytes;
    do {
      const capacity = ring.capacity(0);
      header.len = Math.min(capacity, left);
      left -= header.len;
      const isLast = left === 0 && endFlags !== 0;
      // A buffer that holds nothing but a header carries an update, unless it ends a message; it has to go back in order.
      header.op = header.len > 0 || isLast ? Op.RW : Op.CREDIT_UPDATE;
      header.flags = isLast ? endFlags : 0;
      if (header.op === Op.RW) connection.sendCredit.spend(header.len);
      if (header.len > 0) this.usualPayload = capacity;
      ring.complete(header);
      packets++;
    } while (left > 0);
    connection.due &= ~Due.CREDIT_UPDATE;
    return packets;
  }
}
