/**
 * Messages of host programs on their way to the guest: one message a turn, in as many packets as the guest's buffers
 * make of it, the last of them with EOM. Allocates nothing per packet.
 *
 * A message is read when there is credit for all of it, straight into guest buffers if they hold all of it. If the
 * receive queue has fewer just now, it is read into memory of our own, and leaves that as buffers come; its connection
 * keeps its turn for so long, so that one such message a VM is all that is ever held.
 */
import { errno } from "../linux/errors.js";
import { IovecList } from "../linux/iovec.js";
import { copyMemory, isOutOfMemory, mapAnonymous, PAGE_BYTES, roundUp, unmap } from "../linux/mapping.js";
import { END_OF_MESSAGES, peekMessage, receiveMessageAt, takeEmptyMessage } from "../linux/seqpacket.js";
import type { Connection } from "./connection.js";
import type { SendCredit } from "./credit.js";
import { MessageEnd } from "./header.js";
import { LONGEST_MESSAGE_BYTES } from "./limits.js";
import { PacketRun, takeRoom } from "./packet-run.js";
import type { ReceiveRing } from "./receive-ring.js";

/** A message that was read before there was room for it. */
interface HeldMessage {
  readonly connection: Connection;
  readonly address: number;
  readonly bytes: number;
  sent: number;
}

export type TurnEnd =
  /** A message is with the guest, or all that was left of one. The connection may have another turn. */
  | "sent"
  /** A part of a message is; the connection keeps its place, which is the first. */
  | "unfinished"
  /** There is nothing to send for this connection now. It has left its place. */
  | "waits"
  /** The ring has no buffer; the connection keeps its place. */
  | "starved";

export class MessagePump {
  /** What the last turn came to. */
  packetsSent = 0;
  bytesSent = 0;
  readonly #packets: PacketRun;
  readonly #iovecs = new IovecList();
  #held: HeldMessage | undefined;

  constructor(guestCid: number) {
    this.#packets = new PacketRun(guestCid);
  }

  /** The turn of `connection`, which is the first of those that may have data. */
  turn(ring: ReceiveRing, connection: Connection): TurnEnd {
    this.packetsSent = 0;
    this.bytesSent = 0;
    if (connection.readClosed) this.forget(connection);
    if (this.#held?.connection === connection) return this.#sendHeld(ring, this.#held);
    if (!connection.wantsRead || connection.readClosed) {
      connection.dataPlace.leave();
      if (connection.wantsRead) connection.lookWithoutReading();
      return "waits";
    }
    const bytes = peekMessage(connection.fd);
    if (!this.#maySend(connection, bytes)) return "waits";
    connection.creditCame();
    const buffers = ring.take(Math.max(bytes, 1));
    if (buffers === 0) return "starved";
    takeRoom(ring, buffers, bytes, this.#iovecs);
    return this.#iovecs.totalBytes === bytes
      ? this.#readIntoGuest(ring, connection, bytes)
      : this.#hold(ring, connection, bytes);
  }

  /** Whether a message of `bytes` (or what `peekMessage` has said instead) can be sent now; if not, sees to the rest. */
  #maySend(connection: Connection, bytes: number): boolean {
    const { sendCredit } = connection;
    const buffer = Math.min(sendCredit.peerBufAlloc, LONGEST_MESSAGE_BYTES);
    if (bytes >= 0 && bytes <= buffer && hasCredit(sendCredit, bytes, this.#packets.usualPayload))
      return true;
    connection.dataPlace.leave();
    if (bytes === END_OF_MESSAGES) connection.readEnded(0);
    else if (bytes < 0) connection.readEnded(bytes);
    else if (bytes <= buffer) connection.waitForCredit();
    // It could never be sent whole.
    else
      connection.abort(
        `the host program sent a message of ${bytes} bytes, and the guest's buffer holds ${buffer}`,
      );
    return false;
  }

  #readIntoGuest(ring: ReceiveRing, connection: Connection, bytes: number): TurnEnd {
    connection.dataPlace.leave();
    const result = bytes === 0 ? takeEmptyMessage(connection.fd) : this.#iovecs.readFrom(connection.fd);
    if (!isWhole(connection, result, bytes)) return "waits";
    this.#complete(ring, connection, bytes, MessageEnd.EOM);
    return "sent";
  }

  #hold(ring: ReceiveRing, connection: Connection, bytes: number): TurnEnd {
    let address: number;
    try {
      address = mapAnonymous(roundUp(bytes, PAGE_BYTES));
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      connection.abort("there is no memory for a message of the host program");
      return "waits";
    }
    this.#drop();
    this.#held = { connection, address, bytes, sent: 0 };
    const result = receiveMessageAt(connection.fd, address, bytes);
    if (isWhole(connection, result, bytes)) return this.#sendHeld(ring, this.#held);
    this.#drop();
    connection.dataPlace.leave();
    return "waits";
  }

  #sendHeld(ring: ReceiveRing, held: HeldMessage): TurnEnd {
    const { connection, bytes } = held;
    const buffers = ring.take(bytes - held.sent);
    if (buffers === 0) return "starved";
    const iovecs = this.#iovecs;
    takeRoom(ring, buffers, bytes - held.sent, iovecs);
    for (let index = 0; index < iovecs.count; index++) {
      copyMemory(iovecs.address(index), held.address + held.sent, iovecs.length(index));
      held.sent += iovecs.length(index);
    }
    const isAll = held.sent === bytes;
    this.#complete(ring, connection, iovecs.totalBytes, isAll ? MessageEnd.EOM : 0);
    if (!isAll) return "unfinished";
    this.#drop();
    connection.dataPlace.leave();
    return "sent";
  }

  #complete(ring: ReceiveRing, connection: Connection, bytes: number, endFlags: number): void {
    this.packetsSent += this.#packets.complete(ring, connection, bytes, endFlags);
    this.bytesSent += bytes;
  }

  /** What is held for `connection` will not be sent: it is over, or the guest takes no more. */
  forget(connection: Connection): void {
    if (this.#held?.connection === connection) this.#drop();
  }

  #drop(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) unmap(held.address, roundUp(held.bytes, PAGE_BYTES));
  }

  /** The switch is closed. */
  release(): void {
    this.#drop();
    this.#iovecs.release();
  }
}

/**
 * Whether all of a message may be sent. One as long as the guest's whole buffer goes out once that is empty, though the
 * packets' overhead (`PACKET_OVERHEAD_BYTES`) then comes on top: there is no other way to send it.
 */
function hasCredit(credit: SendCredit, bytes: number, packetBytes: number): boolean {
  return credit.available(packetBytes) >= bytes || credit.unconsumed === 0;
}

/** A message that was as long as this a moment ago, and that nobody else reads, is still. */
function isWhole(connection: Connection, result: number, bytes: number): boolean {
  if (result === bytes) return true;
  connection.readEnded(result < 0 ? result : -errno.EMSGSIZE);
  return false;
}
