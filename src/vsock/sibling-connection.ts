/**
 * One guest's end of a connection between two sibling guests, of a stream or of messages. Each guest has an end of its own
 * in its own switch, with its own credit; the other guest is its "host". What it sends goes through its pipe
 * (`sibling-pipe.ts`), which is what the other end reads from.
 *
 * What one guest does, the other hears of as if a host program had done it: after everything that was sent before. A guest
 * whose VM goes down, or that resets, takes the other end with it.
 *
 * What crosses from one guest's switch to the other's asks for a turn of the loop: the other may have had its own.
 */
import { EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from "../linux/epoll.js";
import { errno } from "../linux/errors.js";
import type { IovecList } from "../linux/iovec.js";
import { Connection, type ConnectionOwner, type Opener } from "./connection.js";
import { Shutdown, SocketType } from "./header.js";
import { LONGEST_MESSAGE_BYTES } from "./limits.js";
import { type PipeEnds, SiblingPipe } from "./sibling-pipe.js";

/** The switch of the guest that an end belongs to. */
export interface SiblingOwner extends ConnectionOwner {
  /** Something waits for the guest in one of its sibling connections: sends what can be sent at once. */
  deliver(): void;
  /** The sibling that `connection`'s guest asked for has agreed, or has not. */
  accepted(connection: SiblingConnection): void;
  refused(connection: SiblingConnection, reason: string): void;
}

export class SiblingConnection extends Connection implements Opener, PipeEnds {
  override readonly readsStream = false;
  override readonly type: number;
  override readonly farCid: number;
  /** The other guest's end, until either is gone. */
  other: SiblingConnection | undefined;
  readonly #pipe: SiblingPipe;
  readonly #owner: SiblingOwner;

  constructor(
    owner: SiblingOwner,
    farCid: number,
    farPort: number,
    guestPort: number,
    type: number,
    state: "connecting" | "requesting",
    bufferBytes: number,
  ) {
    super(owner, farPort, guestPort, state, bufferBytes);
    this.#owner = owner;
    this.type = type;
    this.farCid = farCid;
    this.#pipe = new SiblingPipe(this.receiveCredit, this);
    this.host = this.#pipe;
  }

  /** What the other guest has sent. */
  get incoming(): SiblingPipe | undefined {
    return this.other === undefined ? undefined : this.other.#pipe;
  }

  override describe(): string {
    return `guest port ${this.guestPort}, port ${this.hostPort} of CID ${this.farCid}`;
  }

  override makeDue(bits: number): void {
    super.makeDue(bits);
    this.owner.loop.requestTurn();
  }

  // ---- how it begins ----

  /** `most` of a message is what the other guest's buffer holds: it could not take a longer one. */
  limitMessages(most: number): void {
    const { bufAlloc } = this.receiveCredit;
    if (this.type !== SocketType.SEQPACKET || most >= bufAlloc) return;
    this.receiveCredit.shrink(most);
    this.owner.bufferReturned(bufAlloc - most);
  }

  /** The guest that was asked has agreed. */
  connected(other: Connection): void {
    this.limitMessages(other.sendCredit.peerBufAlloc);
    this.#owner.accepted(this);
  }

  /** It has not. */
  failed(reason: string): void {
    if (this.state !== "connecting") return;
    this.#owner.refused(this, reason);
  }

  // ---- guest to sibling ----

  /** Notes what the next `len` bytes are part of; false if the connection cannot go on, and is over. */
  notePart(len: number, flags: number): boolean {
    const most = Math.min(this.other?.sendCredit.peerBufAlloc ?? 0, LONGEST_MESSAGE_BYTES);
    if (this.#pipe.partBytes + len > most) {
      this.abort(
        `the guest sent a message longer than the ${most} bytes of its sibling's buffer`,
        "violation",
      );
    } else if (!this.#pipe.notePart(len, flags)) {
      this.abort("more empty messages wait for the sibling than can be kept", "violation");
    }
    return this.state !== "closed" && this.state !== "draining";
  }

  override writeBatch(batch: IovecList): void {
    const result = this.#pipe.write(batch);
    // The sibling, which took it, may have ended the connection.
    if (this.state === "closed") return;
    if (result < 0) {
      this.hostRefuses(result);
      return;
    }
    // The longest message of a seqpacket socket is its peer's buffer: there that does not grow.
    if (this.type === SocketType.STREAM) this.growBuffer(batch.totalBytes);
    this.tellCredit();
  }

  override guestShutsDown(flags: number): void {
    if (this.#pipe.partBytes > 0 && (flags & Shutdown.SEND) !== 0)
      this.abort("the guest ended its direction within a message", "violation");
    else super.guestShutsDown(flags);
  }

  // ---- PipeEnds: what this guest's pipe has to say; all but `left` concern the other end ----

  arrived(): void {
    this.other?.comes();
  }

  private comes(): void {
    this.readable = true;
    if (this.state !== "established") return;
    this.owner.dataDue(this);
    this.#owner.deliver();
  }

  left(): void {
    this.onEvents(EPOLLOUT);
    this.owner.loop.requestTurn();
  }

  senderEnds(): void {
    this.other?.stirs(EPOLLIN | EPOLLRDHUP);
  }

  receiverEnds(): void {
    this.other?.receiverEnded();
  }

  private receiverEnded(): void {
    const pipe = this.#pipe;
    pipe.refuses = true;
    // As with a Unix socket: what comes from now on is lost, and what waits is.
    if (!pipe.isDelivered) this.hostRefuses(-errno.EPIPE);
    else if (this.state === "established") this.sendShutdown(Shutdown.RECEIVE);
  }

  /** This end is over: everything of it is with the other guest, or given up. */
  senderIsGone(): void {
    const { other } = this;
    if (other === undefined) return;
    this.other = undefined;
    other.other = undefined;
    const isClean =
      this.guestShutdown === Shutdown.BOTH && this.abortReason === undefined && other.#pipe.isDelivered;
    other.siblingIsGone(isClean);
  }

  private siblingIsGone(isClean: boolean): void {
    this.#pipe.drop();
    this.#pipe.refuses = true;
    this.owner.loop.requestTurn();
    // The opener hears of it by `failed`.
    if (this.state === "connecting" || this.state === "closing") return;
    if (this.state === "draining") this.discard();
    else if (this.state === "requesting") this.abandon("its sibling gave up");
    else if (isClean) this.stirs(EPOLLIN | EPOLLRDHUP | EPOLLHUP);
    else this.abort("its sibling is gone or reset it", "sibling");
  }

  private stirs(events: number): void {
    this.onEvents(events);
    this.owner.loop.requestTurn();
  }

  // ---- sibling to guest ----

  protected override peekHost(): number {
    if (this.incoming?.hasData === true) return 1;
    return this.ending ? 0 : -errno.EAGAIN;
  }

  /** Instead of a read, when nothing waits: the sibling may have ended its direction. */
  noteEmpty(): void {
    this.readEnded(this.peekHost());
  }

  /** Payload bytes that may be sent now, in packets of `packetBytes`. */
  creditFor(packetBytes: number): number {
    const { sendCredit, incoming } = this;
    const credit = sendCredit.available(packetBytes);
    // Nothing of a message can be taken before its end has come, so one that is as long as the guest's buffer goes out
    // whole although the packets' overhead (`PACKET_OVERHEAD_BYTES`) then comes on top.
    if (this.type === SocketType.STREAM || incoming === undefined) return credit;
    const { unconsumed, peerBufAlloc } = sendCredit;
    return unconsumed <= incoming.takenOfMessage ? Math.max(credit, peerBufAlloc - unconsumed) : credit;
  }
}
