/**
 * What siblings have sent on its way to the guest: from their memory, or from where it waits, into the guest's buffers.
 * One turn of a connection is what its pipe has in one place, and no more than the rest of one message.
 * Hot path: allocates nothing per packet.
 */
import { IovecList } from "../linux/iovec.js";
import { BURST_BYTES } from "./limits.js";
import { PacketRun, takeRoom } from "./packet-run.js";
import type { ReceiveRing } from "./receive-ring.js";
import type { SiblingConnection } from "./sibling-connection.js";

export class SiblingPump {
  /** What the last turn came to. */
  packetsSent = 0;
  bytesSent = 0;
  readonly #packets: PacketRun;
  readonly #iovecs = new IovecList();

  constructor(guestCid: number) {
    this.#packets = new PacketRun(guestCid);
  }

  /** The turn of the first connection of those that may have data; false if the ring has no buffer. */
  turn(ring: ReceiveRing, connection: SiblingConnection): boolean {
    this.packetsSent = 0;
    this.bytesSent = 0;
    const { incoming } = connection;
    if (!connection.wantsRead || connection.readClosed || incoming?.hasData !== true) {
      connection.dataPlace.leave();
      if (!connection.wantsRead) return true;
      if (connection.readClosed) connection.lookWithoutReading();
      else connection.noteEmpty();
      return true;
    }
    const bytes = Math.min(incoming.nextBytes, BURST_BYTES);
    const credit = connection.creditFor(this.#packets.usualPayload);
    if (credit > 0) connection.creditCame();
    // A message without bytes needs none.
    else if (bytes > 0) {
      connection.dataPlace.leave();
      connection.waitForCredit();
      return true;
    }
    const wanted = Math.min(bytes, credit);
    const buffers = ring.take(Math.max(wanted, 1));
    if (buffers === 0) return false;
    connection.dataPlace.leave();
    const room = this.#iovecs;
    takeRoom(ring, buffers, wanted, room);
    const moved = room.totalBytes;
    // Buffers without room for payload go back without any, and the message does not end with them.
    const flags = moved > 0 || bytes === 0 ? incoming.take(room) : 0;
    this.packetsSent = this.#packets.complete(ring, connection, moved, flags);
    this.bytesSent = moved;
    incoming.took(moved);
    if (connection.wantsRead) connection.owner.dataDue(connection);
    return true;
  }

  /** The switch is closed. */
  release(): void {
    this.#iovecs.release();
  }
}
