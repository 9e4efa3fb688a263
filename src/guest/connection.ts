/**
 * One socket of the guest, with Linux's rules: an application's calls on one side, packets on the other. A stream; what
 * a seqpacket socket does otherwise is in `seqpacket-connection.ts`.
 * Must not know rings: the driver fetches payload when it has room, and sends the control packets asked for.
 *
 * connecting → established → closing → closed; a reset ends it from anywhere.
 */
import type { Timer } from "../linux/timers.js";
import { HOST_CID, Op, type PacketHeader, Shutdown, SocketType } from "../vsock/header.js";
import { GuestCredit } from "./credit.js";

/** VSOCK_DEFAULT_CONNECT_TIMEOUT and VSOCK_CLOSE_TIMEOUT of Linux. */
export const CONNECT_TIMEOUT_MS = 2000;
export const CLOSE_TIMEOUT_MS = 8000;

export type GuestConnectionState =
  /** REQUEST was sent. */
  | "connecting"
  /** Data flows, in the directions that nobody has shut down. */
  | "established"
  /** The application has closed it; the peer's RST, or the timeout, ends it. */
  | "closing"
  | "closed";

export type GuestSocketErrorCode = "ECONNRESET" | "ETIMEDOUT" | "EPIPE" | "ENOBUFS" | "EMSGSIZE";

export class GuestSocketError extends Error {
  override readonly name = "GuestSocketError";

  constructor(
    readonly code: GuestSocketErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** What a connection needs of its driver. */
export interface ConnectionHost {
  /** Sends a packet without payload. */
  control(connection: GuestConnection, op: number, flags?: number): void;
  /** The connection has something to send. */
  wantsToSend(connection: GuestConnection): void;
  /** The connection is over: packets for it are not its own any more. */
  forget(connection: GuestConnection): void;
  setTimer(delayMs: number, callback: () => void): Timer;
}

interface PendingWrite {
  readonly bytes: Uint8Array;
  at: number;
  /** Flags of the packet that carries the last of it. */
  readonly lastFlags: number;
  readonly done: () => void;
  readonly failed: (error: Error) => void;
}

interface PendingRead {
  readonly resolve: (bytes: Uint8Array | undefined) => void;
}

export class GuestConnection {
  /** `SocketType`: what its packets carry. */
  readonly type: number = SocketType.STREAM;
  readonly credit: GuestCredit;
  /** It ended by the peer's RST, or by ours because the peer broke a rule. */
  wasReset = false;
  /** Payload bytes that arrived, and that were sent. */
  receivedBytes = 0;
  sentBytes = 0;

  #state: GuestConnectionState;
  readonly #host: ConnectionHost;
  readonly #writes: PendingWrite[] = [];
  readonly #packets: Uint8Array[] = [];
  readonly #reads: PendingRead[] = [];
  /** What the peer will not do any more, what we will not, and which of ours was told. Flags of SHUTDOWN. */
  #peerShutdown = 0;
  #shutdown = 0;
  #toldShutdown = 0;
  #sink: ((bytes: Uint8Array) => void) | undefined;
  #timer: Timer | undefined;
  #opened: { resolve: () => void; reject: (error: Error) => void } | undefined;
  readonly #closedPromise: Promise<void>;
  #resolveClosed: () => void = () => {};

  constructor(
    host: ConnectionHost,
    readonly localPort: number,
    readonly peerPort: number,
    state: "connecting" | "established",
    bufferBytes?: number,
    readonly peerCid: number = HOST_CID,
  ) {
    this.#host = host;
    this.#state = state;
    this.credit = new GuestCredit(bufferBytes);
    this.#closedPromise = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  get state(): GuestConnectionState {
    return this.#state;
  }

  /** The peer will send nothing more. */
  get peerHasEnded(): boolean {
    return (this.#peerShutdown & Shutdown.SEND) !== 0 || this.#state === "closed";
  }

  /** Resolves once the connection is over, however it ended. */
  get closed(): Promise<void> {
    return this.#closedPromise;
  }

  // ---- the application ---------------------------------------------------------------------------------------

  /** Waits for the peer's answer; rejects if it refuses or is silent. For the side that connects. */
  open(timeoutMs = CONNECT_TIMEOUT_MS): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#opened = { resolve, reject };
      this.#timer = this.#host.setTimer(timeoutMs, () => {
        reject(new GuestSocketError("ETIMEDOUT", `port ${this.peerPort} did not answer`));
        this.#end(false);
      });
    });
  }

  /** Resolves when every byte is in a packet that the device has been given. */
  write(bytes: Uint8Array): Promise<void> {
    return this.queueWrite(bytes, 0);
  }

  /** As `write`; the packet with the last byte gets flags. Without any, nothing is sent of nothing. */
  protected queueWrite(bytes: Uint8Array, lastFlags: number): Promise<void> {
    return new Promise((done, failed) => {
      if (!this.#maySend) {
        failed(this.#brokenPipe());
        return;
      }
      if (bytes.length === 0 && lastFlags === 0) {
        done();
        return;
      }
      this.#writes.push({ bytes, at: 0, lastFlags, done, failed });
      this.#host.wantsToSend(this);
    });
  }

  /** The next bytes, or undefined when none will come: the peer shut down, or the connection is over. */
  read(): Promise<Uint8Array | undefined> {
    const packet = this.#packets.shift();
    if (packet !== undefined) {
      this.#consumed(packet.length);
      return Promise.resolve(packet);
    }
    if (this.peerHasEnded || (this.#shutdown & Shutdown.RECEIVE) !== 0) return Promise.resolve(undefined);
    return new Promise((resolve) => this.#reads.push({ resolve }));
  }

  /** Everything until the peer's end. */
  async readToEnd(): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for (let chunk = await this.read(); chunk !== undefined; chunk = await this.read()) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  /** From now on bytes go to `sink` as they arrive, from guest memory; it must not keep them. */
  consume(sink: (bytes: Uint8Array) => void): void {
    this.#sink = sink;
    for (const packet of this.#packets.splice(0)) {
      sink(packet);
      this.#consumed(packet.length);
    }
  }

  /** Says what this side will not do any more; SEND takes effect behind what was written. */
  shutdown(flags: number): void {
    this.#shutdown |= flags;
    this.#tellShutdown();
  }

  /** Ends both directions behind what was written; resolves when the connection is gone. */
  close(): Promise<void> {
    if (this.#state === "connecting") this.reset();
    if (this.#state === "established") {
      this.#state = "closing";
      this.#packets.length = 0;
      if ((this.#peerShutdown & Shutdown.BOTH) === Shutdown.BOTH) {
        // The peer has done both already, and waits for this.
        this.#host.control(this, Op.RST);
        this.#end(false);
      } else {
        this.#timer = this.#host.setTimer(CLOSE_TIMEOUT_MS, () => this.reset());
        this.shutdown(Shutdown.BOTH);
      }
    }
    return this.#closedPromise;
  }

  /** Ends the connection at once, as a killed application does. */
  reset(): void {
    if (this.#state === "closed") return;
    this.#host.control(this, Op.RST);
    this.#end(false);
  }

  // ---- packets -------------------------------------------------------------------------------------------------

  /** Whether a data packet can be sent now. */
  get canSend(): boolean {
    return this.#writes.length > 0 && this.credit.sendable > 0;
  }

  /** How much the next packet carries if it can hold `most`. */
  payloadLength(most: number): number {
    const { bytes, at } = this.#writes[0];
    return Math.min(bytes.length - at, this.credit.sendable, most);
  }

  /** The flags of a packet with the next `length` bytes. */
  payloadFlags(length: number): number {
    const { bytes, at, lastFlags } = this.#writes[0];
    return at + length === bytes.length ? lastFlags : 0;
  }

  /** Copies the next `length` bytes to `target`. Nothing has been sent yet. */
  copyPayload(target: Uint8Array, length: number): void {
    const { bytes, at } = this.#writes[0];
    target.set(bytes.subarray(at, at + length));
  }

  /** The next `length` bytes are with the device. */
  payloadSent(length: number): void {
    const write = this.#writes[0];
    write.at += length;
    this.credit.spend(length);
    this.sentBytes += length;
    if (write.at < write.bytes.length) return;
    this.#writes.shift();
    write.done();
    if (this.#writes.length === 0) this.#tellShutdown();
  }

  /** Takes a packet of the peer; `payload` passes the bytes behind its header, piece by piece. */
  packet(header: PacketHeader, payload: (take: (piece: Uint8Array) => void) => void): void {
    this.credit.peerBufAlloc = header.bufAlloc;
    this.credit.peerFwdCnt = header.fwdCnt;
    switch (this.#state) {
      case "connecting":
        this.#connectingPacket(header);
        break;
      case "established":
      case "closing":
        this.#openPacket(header, payload);
        break;
      case "closed":
        break;
    }
    if (this.canSend) this.#host.wantsToSend(this);
  }

  #connectingPacket({ op }: PacketHeader): void {
    if (op === Op.RESPONSE) {
      this.#state = "established";
      this.#timer?.cancel();
      this.#opened?.resolve();
      return;
    }
    // RST is ECONNRESET; anything else EPROTO, with a RST from us.
    if (op !== Op.RST) this.#host.control(this, Op.RST);
    this.#end(op === Op.RST);
  }

  #openPacket(header: PacketHeader, payload: (take: (piece: Uint8Array) => void) => void): void {
    switch (header.op) {
      case Op.RW:
        this.#data(header, payload);
        return;
      case Op.CREDIT_REQUEST:
        this.#host.control(this, Op.CREDIT_UPDATE);
        return;
      case Op.SHUTDOWN:
        this.#peerShutdown |= header.flags & Shutdown.BOTH;
        this.#afterPeerShutdown();
        return;
      case Op.RST:
        this.#end(this.#state === "established");
    }
  }

  /** What a packet's payload makes ready to be read: itself, or undefined if more has to come. */
  protected assemble(payload: Uint8Array, _flags: number): Uint8Array | undefined {
    return payload;
  }

  #data(header: PacketHeader, payload: (take: (piece: Uint8Array) => void) => void): void {
    const length = header.len;
    this.receivedBytes += length;
    if (this.#state === "closing") return;
    if (!this.credit.receive(length)) {
      // Linux: the packet is dropped, the socket gets ENOBUFS, the peer a RST.
      this.#host.control(this, Op.RST);
      this.#end(true);
      return;
    }
    if (this.#sink !== undefined) {
      payload(this.#sink);
      this.#consumed(length);
      return;
    }
    const copy = new Uint8Array(length);
    let at = 0;
    payload((piece) => {
      copy.set(piece, at);
      at += piece.length;
    });
    const ready = this.assemble(copy, header.flags);
    if (ready === undefined) return;
    const reader = this.#reads.shift();
    if (reader === undefined) {
      this.#packets.push(ready);
      return;
    }
    this.#consumed(ready.length);
    reader.resolve(ready);
  }

  #consumed(bytes: number): void {
    const shouldTell = this.credit.consume(bytes);
    if (this.#state === "established" && shouldTell) this.#host.control(this, Op.CREDIT_UPDATE);
    this.#afterPeerShutdown();
  }

  #afterPeerShutdown(): void {
    if (this.#state === "closed") return;
    if ((this.#peerShutdown & Shutdown.SEND) !== 0 && this.#packets.length === 0) this.#endReads();
    if ((this.#peerShutdown & Shutdown.RECEIVE) !== 0) this.#failWrites();
    // Both, and nothing unread: the connection is over, which the peer learns by a RST.
    if (this.#peerShutdown === Shutdown.BOTH && this.#packets.length === 0) {
      this.#host.control(this, Op.RST);
      this.#end(false);
    }
  }

  get #maySend(): boolean {
    return (
      this.#state === "established" &&
      (this.#shutdown & Shutdown.SEND) === 0 &&
      (this.#peerShutdown & Shutdown.RECEIVE) === 0
    );
  }

  #tellShutdown(): void {
    if (this.#state !== "established" && this.#state !== "closing") return;
    let flags = this.#shutdown;
    if (this.#writes.length > 0) flags &= ~Shutdown.SEND;
    if ((flags & ~this.#toldShutdown) === 0) return;
    this.#toldShutdown |= flags;
    this.#host.control(this, Op.SHUTDOWN, this.#toldShutdown);
  }

  #end(wasReset: boolean): void {
    this.#state = "closed";
    this.wasReset = wasReset;
    this.#timer?.cancel();
    this.#host.forget(this);
    this.#opened?.reject(new GuestSocketError("ECONNRESET", `port ${this.peerPort} refused the connection`));
    this.#failWrites();
    if (this.#packets.length === 0) this.#endReads();
    this.#resolveClosed();
  }

  #failWrites(): void {
    for (const { failed } of this.#writes.splice(0)) failed(this.#brokenPipe());
  }

  #endReads(): void {
    for (const { resolve } of this.#reads.splice(0)) resolve(undefined);
  }

  #brokenPipe(): GuestSocketError {
    return new GuestSocketError("EPIPE", `port ${this.peerPort} takes no more data`);
  }

  /** The transport was reset under it (TRANSPORT_RESET): nothing is sent. */
  transportReset(): void {
    if (this.#state !== "closed") this.#end(true);
  }
}
