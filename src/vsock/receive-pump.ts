/**
 * What is due to the guest, and in which order it goes out: resets first, then control packets, then data, each
 * connection in its turn. Hot path: allocates nothing per packet.
 */
import { errno } from "../linux/errors.js";
import { IovecList } from "../linux/iovec.js";
import { LinkedList } from "../linux/linked-list.js";
import { type Connection, Due } from "./connection.js";
import type { SwitchCounters } from "./counters.js";
import { Op, PacketHeader, Shutdown, SocketType } from "./header.js";
import { BURST_BYTES, FIRST_READ_BYTES } from "./limits.js";
import { MessagePump } from "./message-pump.js";
import { addressPacket } from "./outgoing.js";
import { USUAL_PAYLOAD_BYTES } from "./packet-run.js";
import type { ReceiveRing } from "./receive-ring.js";
import type { ResetQueue } from "./reset-queue.js";
import { SiblingConnection } from "./sibling-connection.js";
import { SiblingPump } from "./sibling-pump.js";

export class ReceivePump {
  readonly #guestCid: number;
  readonly #resets: ResetQueue;
  readonly #counters: SwitchCounters;
  readonly #header = new PacketHeader();
  readonly #iovecs = new IovecList();
  readonly #messages: MessagePump;
  readonly #siblings: SiblingPump;
  /** Connections with control packets due, and those that may have data, each in its turn. */
  readonly #control = new LinkedList<Connection>();
  readonly #data = new LinkedList<Connection>();
  #usualPayload = USUAL_PAYLOAD_BYTES;
  #packetsLeft = 0;
  #bytesLeft = 0;

  constructor(
    guestCid: number,
    resets: ResetQueue,
    counters: SwitchCounters,
    /** A reset was put into a buffer of the guest. */
    private readonly resetSent: (farCid: number, farPort: number, guestPort: number) => void,
  ) {
    this.#guestCid = guestCid;
    this.#resets = resets;
    this.#counters = counters;
    this.#messages = new MessagePump(guestCid);
    this.#siblings = new SiblingPump(guestCid);
  }

  get hasWork(): boolean {
    return this.#resets.length > 0 || this.#control.first !== undefined || this.#data.first !== undefined;
  }

  addControl({ controlPlace }: Connection): void {
    if (controlPlace.list === undefined) this.#control.append(controlPlace);
  }

  addData({ dataPlace }: Connection): void {
    if (dataPlace.list === undefined) this.#data.append(dataPlace);
  }

  /** The connection is over: what was read for it will not be sent. */
  forget(connection: Connection): void {
    if (connection.type !== SocketType.STREAM) this.#messages.forget(connection);
  }

  /** Forgets everything that is due. */
  clear(): void {
    while (this.#control.first !== undefined) this.#control.first.leave();
    while (this.#data.first !== undefined) this.#data.first.leave();
  }

  /** The switch is closed. */
  release(): void {
    this.#iovecs.release();
    this.#messages.release();
    this.#siblings.release();
  }

  /** See `VsockSwitch.pump`. */
  run(ring: ReceiveRing, mostPackets: number): "idle" | "starved" | "more" {
    this.#packetsLeft = mostPackets;
    this.#bytesLeft = BURST_BYTES;
    const end = this.#fill(ring);
    this.#counters.toGuestPackets += mostPackets - this.#packetsLeft;
    this.#counters.toGuestBytes += BURST_BYTES - this.#bytesLeft;
    return end;
  }

  #fill(ring: ReceiveRing): "idle" | "starved" | "more" {
    while (this.#packetsLeft > 0 && this.#bytesLeft > 0) {
      if (this.#resets.length > 0) {
        if (!this.#sendReset(ring)) return "starved";
      } else if (this.#control.first !== undefined) {
        if (!this.#sendControl(ring, this.#control.first.owner)) return "starved";
      } else if (this.#data.first !== undefined) {
        if (!this.#sendData(ring, this.#data.first.owner)) return "starved";
      } else return "idle";
    }
    return "more";
  }

  #sendReset(ring: ReceiveRing): boolean {
    if (ring.take(0) === 0) return false;
    const header = this.#header;
    header.srcCid = this.#resets.sourceCid;
    header.dstCid = this.#guestCid;
    header.srcPort = this.#resets.sourcePort;
    header.dstPort = this.#resets.guestPort;
    header.type = this.#resets.type;
    header.op = Op.RST;
    header.flags = 0;
    header.len = 0;
    header.bufAlloc = 0;
    header.fwdCnt = 0;
    this.#resets.shift();
    ring.complete(header);
    this.resetSent(header.srcCid, header.srcPort, header.dstPort);
    this.#packetsLeft--;
    return true;
  }

  /** Sends one control packet of the first connection in the list. */
  #sendControl(ring: ReceiveRing, connection: Connection): boolean {
    if (connection.due !== 0) {
      if (ring.take(0) === 0) return false;
      const header = this.#addressed(connection);
      header.len = 0;
      header.flags = 0;
      header.op = this.#takeDue(connection, header);
      ring.complete(header);
      this.#packetsLeft--;
    }
    if (connection.due === 0) connection.controlPlace.leave();
    return true;
  }

  /** Takes the most urgent `Due` bit and returns the operation for it. */
  #takeDue(connection: Connection, header: PacketHeader): number {
    const { due } = connection;
    if ((due & Due.REQUEST) !== 0) {
      connection.due &= ~Due.REQUEST;
      return Op.REQUEST;
    }
    if ((due & Due.RESPONSE) !== 0) {
      // Every packet carries the credit, so an update of its own is not needed.
      connection.due &= ~(Due.RESPONSE | Due.CREDIT_UPDATE);
      return Op.RESPONSE;
    }
    if ((due & Due.SHUTDOWN) !== 0) {
      connection.due &= ~(Due.SHUTDOWN | Due.CREDIT_UPDATE);
      header.flags = connection.sentShutdown & Shutdown.BOTH;
      return Op.SHUTDOWN;
    }
    if ((due & Due.CREDIT_REQUEST) !== 0) {
      connection.askForCredit();
      return Op.CREDIT_REQUEST;
    }
    connection.due &= ~Due.CREDIT_UPDATE;
    return Op.CREDIT_UPDATE;
  }

  /** The header of a packet of `connection`, but for `len`, `op` and `flags`. */
  #addressed(connection: Connection): PacketHeader {
    addressPacket(this.#header, this.#guestCid, connection);
    return this.#header;
  }

  /** One turn of the first connection in the data list; false if the ring has no buffer. */
  #sendData(ring: ReceiveRing, connection: Connection): boolean {
    if (!connection.readsStream) return this.#sendOther(ring, connection);
    const credit = connection.sendCredit.available(this.#usualPayload);
    if (credit > 0) connection.creditCame();
    if (!connection.wantsRead || connection.readClosed || credit === 0) {
      connection.dataPlace.leave();
      if (!connection.wantsRead) return true;
      if (connection.readClosed) connection.lookWithoutReading();
      else connection.waitForCredit();
      return true;
    }
    const buffers = ring.take(Math.min(credit, connection.readBytes));
    if (buffers === 0) return false;
    connection.dataPlace.leave();
    this.#read(ring, buffers, connection, credit);
    if (connection.wantsRead) this.addData(connection);
    return true;
  }

  #sendOther(ring: ReceiveRing, connection: Connection): boolean {
    if (!(connection instanceof SiblingConnection)) return this.#sendMessage(ring, connection);
    const siblings = this.#siblings;
    const hadBuffer = siblings.turn(ring, connection);
    this.#packetsLeft -= siblings.packetsSent;
    this.#bytesLeft -= siblings.bytesSent;
    return hadBuffer;
  }

  #sendMessage(ring: ReceiveRing, connection: Connection): boolean {
    const messages = this.#messages;
    const end = messages.turn(ring, connection);
    this.#packetsLeft -= messages.packetsSent;
    this.#bytesLeft -= messages.bytesSent;
    if (end === "sent" && connection.wantsRead) this.addData(connection);
    return end !== "starved";
  }

  /** One recvmsg into the buffers taken, then their headers. */
  #read(ring: ReceiveRing, buffers: number, connection: Connection, credit: number): void {
    const iovecs = this.#iovecs;
    iovecs.clear();
    let wanted = Math.min(credit, connection.readBytes);
    for (let slot = 0; slot < buffers && wanted > 0 && !iovecs.isFull; slot++) {
      const bytes = Math.min(ring.capacity(slot), wanted);
      if (bytes > 0) ring.appendPayload(slot, bytes, iovecs);
      wanted -= bytes;
    }
    const asked = iovecs.totalBytes;
    if (asked === 0) {
      this.#returnEmptyBuffer(ring, connection);
      return;
    }
    const result = iovecs.receiveFrom(connection.fd);
    if (result <= 0) {
      if (result !== -errno.EINTR) connection.readEnded(result);
      return;
    }
    if (result === asked) {
      connection.readBytes = Math.min(connection.readBytes * 4, BURST_BYTES);
    } else {
      connection.readBytes = Math.max(FIRST_READ_BYTES, result);
      // The socket is drained: a new edge will tell of more. Unless its end is due, of which the edge has been seen.
      if (!connection.ending && !iovecs.endedAtDescriptors) connection.readable = false;
    }
    this.#bytesLeft -= result;
    this.#complete(ring, connection, result);
  }

  #complete(ring: ReceiveRing, connection: Connection, received: number): void {
    const header = this.#addressed(connection);
    header.flags = 0;
    for (let left = received; left > 0; left -= header.len) {
      const capacity = ring.capacity(0);
      header.len = Math.min(capacity, left);
      // A buffer that holds nothing but a header carries an update; it has to go back in order.
      header.op = header.len === 0 ? Op.CREDIT_UPDATE : Op.RW;
      if (header.len > 0) {
        connection.sendCredit.spend(header.len);
        this.#usualPayload = capacity;
      }
      ring.complete(header);
      this.#packetsLeft--;
    }
    connection.due &= ~Due.CREDIT_UPDATE;
  }

  /** The guest offered a buffer without room for payload: it goes back with the only thing that it can carry. */
  #returnEmptyBuffer(ring: ReceiveRing, connection: Connection): void {
    const header = this.#addressed(connection);
    header.flags = 0;
    header.len = 0;
    header.op = Op.CREDIT_UPDATE;
    ring.complete(header);
    this.#packetsLeft--;
  }
}
