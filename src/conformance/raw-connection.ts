/**
 * One stream connection of the raw guest: keeps both sides' counters and what arrived, sends within the device's
 * credit, and gives credit back. Everything that it does a case can also do by hand, with `send` and `guest.send`.
 */
import { MessageEnd, Op, type PacketHeader, Shutdown, SocketType } from "../vsock/header.js";
import type { Until } from "./host-programs.js";
import type { PacketFields, RawGuest } from "./raw-guest.js";

const MOST_PAYLOAD_BYTES = 65_536;

export class RawConnection {
  isOpen = false;
  wasReset = false;
  /** What the device said that it will not do any more: flags of SHUTDOWN. */
  peerShutdown = 0;
  /** Counters as they go over the wire, 32 bits. */
  bufAlloc = 262_144;
  fwdCnt = 0;
  txCnt = 0;
  rxCnt = 0;
  peerBufAlloc = 0;
  peerFwdCnt = 0;
  /** False: keeps what arrives without giving credit for it. */
  consumes = true;
  /** What packets with EOM have ended, of a seqpacket connection. */
  readonly messages: Buffer[] = [];
  /** How many packets of each operation came. */
  readonly counts = new Map<number, number>();
  #chunks: Buffer[] = [];
  #waitingBytes = 0;
  /** What the device knows of `fwdCnt`. */
  #toldFwdCnt = 0;

  constructor(
    private readonly guest: RawGuest,
    private readonly until: Until,
    readonly guestPort: number,
    readonly hostPort: number,
    /** In every packet of this connection, unless a packet says otherwise. */
    private readonly fields: PacketFields = {},
  ) {}

  isFor({ srcPort, dstPort }: PacketHeader): boolean {
    return dstPort === this.guestPort && srcPort === this.hostPort;
  }

  /** Sends any packet of this connection. */
  send(op: number, fields: PacketFields = {}, payload?: Uint8Array, cut?: readonly number[]): void {
    const { guestPort: srcPort, hostPort: dstPort, bufAlloc, fwdCnt } = this;
    this.#toldFwdCnt = fwdCnt;
    if (op === Op.RW) this.txCnt = (this.txCnt + (payload?.length ?? 0)) >>> 0;
    this.guest.send({ op, srcPort, dstPort, bufAlloc, fwdCnt, ...this.fields, ...fields }, payload, cut);
  }

  /** The header of a packet that the case sends by itself; its payload is counted as sent. */
  headerFor(op: number, len: number): PacketHeader {
    const { guestPort: srcPort, hostPort: dstPort, bufAlloc, fwdCnt } = this;
    this.txCnt = (this.txCnt + len) >>> 0;
    return this.guest.header({ op, len, srcPort, dstPort, bufAlloc, fwdCnt, ...this.fields });
  }

  /** What the device may still be sent: virtio 1.4, 5.10.6.3. */
  get credit(): number {
    return this.peerBufAlloc - ((this.txCnt - this.peerFwdCnt) >>> 0);
  }

  /** Sends everything, as credit and the ring allow. */
  async write(bytes: Uint8Array, mostAtOnce = MOST_PAYLOAD_BYTES): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      await this.until(
        () => this.credit > 0 || this.wasReset,
        `the device gives credit to port ${this.guestPort}`,
      );
      if (this.wasReset) throw new Error("the connection was reset while the guest was sending");
      await this.guest.room();
      const piece = bytes.subarray(at, at + Math.min(mostAtOnce, this.credit));
      this.send(Op.RW, {}, piece);
      at += piece.length;
    }
  }

  /** The next bytes, exactly so many; fewer if the connection ends before. */
  async read(bytes: number): Promise<Buffer> {
    await this.until(
      () => this.#waitingBytes >= bytes || this.hasEnded,
      `${bytes} bytes arrive at port ${this.guestPort} of the guest (${this.#waitingBytes} did)`,
    );
    const all = Buffer.concat(this.#chunks);
    const taken = Math.min(bytes, all.length);
    this.#chunks = [all.subarray(taken)];
    this.#waitingBytes = all.length - taken;
    return all.subarray(0, taken);
  }

  get hasEnded(): boolean {
    return this.wasReset || (this.peerShutdown & Shutdown.SEND) !== 0;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  count(op: number): number {
    return this.counts.get(op) ?? 0;
  }

  /** What every packet says of the device's side. */
  note({ bufAlloc, fwdCnt }: PacketHeader): void {
    this.peerBufAlloc = bufAlloc;
    this.peerFwdCnt = fwdCnt;
  }

  packet(header: PacketHeader, payload: Uint8Array): void {
    this.counts.set(header.op, this.count(header.op) + 1);
    if (header.op === Op.RST) {
      this.wasReset = true;
      return;
    }
    this.note(header);
    if (header.op === Op.RESPONSE) this.isOpen = true;
    if (header.op === Op.SHUTDOWN) this.peerShutdown |= header.flags;
    if (header.op === Op.CREDIT_REQUEST) this.send(Op.CREDIT_UPDATE);
    if (header.op === Op.RW) this.#data(payload, header.flags);
  }

  #data(payload: Uint8Array, flags: number): void {
    this.rxCnt = (this.rxCnt + payload.length) >>> 0;
    this.#chunks.push(Buffer.from(payload));
    this.#waitingBytes += payload.length;
    if (this.fields.type === SocketType.SEQPACKET && (flags & MessageEnd.EOM) !== 0) {
      this.messages.push(Buffer.concat(this.#chunks));
      this.#chunks = [];
      this.#waitingBytes = 0;
    }
    if (!this.consumes) return;
    this.fwdCnt = this.rxCnt;
    if ((this.fwdCnt - this.#toldFwdCnt) >>> 0 > this.bufAlloc / 4) this.send(Op.CREDIT_UPDATE);
  }
}
