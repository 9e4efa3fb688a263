/**
 * The sending half of the driver: control packets first, then payload of the connections that have some, each in its
 * turn. What does not fit into the ring waits here. Owns the transmit queue and its slots.
 */
import { Op, PacketHeader } from "../vsock/header.js";
import type { GuestConnection } from "./connection.js";
import type { Framing } from "./framing.js";
import type { GuestRam } from "./guest-ram.js";
import type { MappedQueue } from "./mapped-queue.js";
import { LARGEST_PAYLOAD_BYTES, type TransmitSlot, TransmitSlots } from "./packet-slots.js";

/** A packet without payload that waits for room. */
interface ControlPacket {
  readonly connection: GuestConnection | undefined;
  readonly op: number;
  readonly flags: number;
  readonly localPort: number;
  readonly peerPort: number;
  readonly peerCid: number;
  /** Of the packet that is answered, if there is no connection: SEQPACKET is refused as SEQPACKET. */
  readonly type: number;
}

/** Large slots at most: 64 KiB each. */
const MOST_LARGE_SLOTS = 128;

export class Transmitter {
  /** The guest's own address; changes with TRANSPORT_RESET. */
  cid: number;
  readonly #queue: MappedQueue<TransmitSlot>;
  readonly #slots: TransmitSlots;
  readonly #framing: Framing;
  readonly #header = new PacketHeader();
  readonly #control: ControlPacket[] = [];
  readonly #senders: GuestConnection[] = [];

  constructor(cid: number, ram: GuestRam, queue: MappedQueue<TransmitSlot>, framing: Framing) {
    this.cid = cid;
    this.#queue = queue;
    this.#framing = framing;
    this.#slots = new TransmitSlots(ram, queue.size, Math.min(queue.size, MOST_LARGE_SLOTS));
  }

  /** A packet of a connection. */
  control(connection: GuestConnection, op: number, flags: number): void {
    const { localPort, peerPort, peerCid, type } = connection;
    this.#control.push({ connection, op, flags, localPort, peerPort, peerCid, type });
  }

  /** RST for a packet that belongs to no connection. */
  refuse({ dstPort, srcPort, srcCid, type }: PacketHeader): void {
    const packet = { op: Op.RST, flags: 0, localPort: dstPort, peerPort: srcPort, peerCid: srcCid, type };
    this.#control.push({ connection: undefined, ...packet });
  }

  wantsToSend(connection: GuestConnection): void {
    if (!this.#senders.includes(connection)) this.#senders.push(connection);
  }

  forget(connection: GuestConnection): void {
    const at = this.#senders.indexOf(connection);
    if (at >= 0) this.#senders.splice(at, 1);
  }

  /** Takes back what the device has sent. */
  reclaim(): void {
    for (let slot = this.#queue.next(); slot !== undefined; slot = this.#queue.next()) this.#slots.give(slot);
  }

  /** Sends as much as fits, and tells the device. */
  send(): void {
    while (this.#control.length > 0 && this.#sendControl(this.#control[0])) this.#control.shift();
    while (this.#control.length === 0 && this.#senders.length > 0) {
      const connection = this.#senders[0];
      if (connection.canSend && !this.#sendPayload(connection)) break;
      this.#senders.shift();
      if (connection.canSend) this.#senders.push(connection);
      // The last payload may have let a SHUTDOWN go.
      while (this.#control.length > 0 && this.#sendControl(this.#control[0])) this.#control.shift();
    }
    this.#queue.flush();
  }

  #sendControl({ connection, op, flags, localPort, peerPort, peerCid, type }: ControlPacket): boolean {
    const slot = this.#slots.takeSmall();
    if (slot === undefined) return false;
    const header = this.#header;
    header.srcPort = localPort;
    header.dstPort = peerPort;
    header.dstCid = peerCid;
    header.type = type;
    header.op = op;
    header.flags = flags;
    return this.#add(slot, connection, 0);
  }

  #sendPayload(connection: GuestConnection): boolean {
    const slot = this.#slots.takeLarge();
    if (slot === undefined) return false;
    const length = connection.payloadLength(LARGEST_PAYLOAD_BYTES);
    connection.copyPayload(slot.payload, length);
    const header = this.#header;
    header.srcPort = connection.localPort;
    header.dstPort = connection.peerPort;
    header.dstCid = connection.peerCid;
    header.type = connection.type;
    header.op = Op.RW;
    header.flags = connection.payloadFlags(length);
    if (!this.#add(slot, connection, length)) return false;
    connection.payloadSent(length);
    return true;
  }

  #add(slot: TransmitSlot, connection: GuestConnection | undefined, payloadBytes: number): boolean {
    const header = this.#header;
    header.srcCid = this.cid;
    header.len = payloadBytes;
    header.bufAlloc = connection?.credit.bufAlloc ?? 0;
    header.fwdCnt = connection?.credit.forwarded ?? 0;
    header.write(slot.header, 0);
    slot.payloadBytes = payloadBytes;
    const buffers = slot.cut(this.#framing.transmit(payloadBytes));
    if (!this.#queue.add(buffers, slot)) {
      this.#slots.give(slot);
      return false;
    }
    connection?.credit.told();
    return true;
  }

  /** The most buffers of one packet. */
  static mostBuffers(framing: Framing): number {
    return Math.max(
      framing.receive.length,
      framing.transmit(0).length,
      framing.transmit(LARGEST_PAYLOAD_BYTES).length,
    );
  }

  /** Frees the slots; the queue has been released. */
  release(): void {
    this.#slots.release();
  }
}
