/**
 * One stream connection between a guest port and a host descriptor.
 *
 * Guest to host: payload goes from guest memory into the host socket; what the socket does not take waits in the
 * spill ring, and only bytes that entered the socket count as forwarded. Host to guest: the switch reads from the
 * descriptor when credit and guest buffers are there. Each direction ends by itself (half-close), and both ends
 * together, cleanly or by a reset. The promise: what the guest sent and we acknowledged reaches the host socket, or
 * the connection is reset.
 *
 * The descriptor is watched edge-triggered, so a connection that may not be read (no credit, no guest buffer) costs
 * nothing. `readable` remembers the edge; it falls only when a read came back short or empty.
 *
 * Knows its switch only through `ConnectionOwner`. States: `connection-state.ts`.
 */
import { closeSync } from "node:fs";
import { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import type { IovecList } from "../linux/iovec.js";
import type { Timer } from "../linux/timers.js";
import { SHUT_RD, SHUT_WR, shutdownSocket } from "../linux/unix-socket.js";
import type { SegmentList } from "../memory/segments.js";
import { type ConnectionState, NEXT_STATES } from "./connection-state.js";
import { ReceiveCredit, SendCredit } from "./credit.js";
import { HEADER_BYTES, Shutdown } from "./header.js";
import { FIRST_READ_BYTES, type SwitchLimits } from "./limits.js";
import { SpillRing } from "./spill-ring.js";

/** Control packets that are due to the guest; several may be at once. */
export const Due = { REQUEST: 1, RESPONSE: 2, CREDIT_UPDATE: 4, CREDIT_REQUEST: 8, SHUTDOWN: 16 } as const;

/** What a connection asks of its switch. */
export interface ConnectionOwner {
  readonly loop: EventLoop;
  readonly limits: SwitchLimits;
  /** The connection has control packets for the guest (`due` is not 0). */
  controlDue(connection: Connection): void;
  /** The connection may have data for the guest. */
  dataDue(connection: Connection): void;
  /** The guest's side is over: forget its ports, and send the guest a reset if `tellGuest`. */
  detach(connection: Connection, tellGuest: boolean): void;
  /** Everything is over; the descriptor is closed. */
  released(connection: Connection): void;
}

/** Who asked for a connection to the guest and waits for the outcome. One of the two is called, once. */
export interface Opener {
  connected(connection: Connection): void;
  failed(reason: string): void;
}

const WATCHED = EPOLLIN | EPOLLRDHUP | EPOLLET;

export class Connection implements EventHandler {
  state: ConnectionState;
  /** `Due` bits. */
  due = 0;
  /** `Shutdown` bits: what the guest said it will not do any more, and what we told it of ourselves. */
  guestShutdown = 0;
  sentShutdown = 0;
  /** The host descriptor may have bytes, an end of file or an error to read. */
  readable = false;
  /** The host program will send no more: a short read does not mean that nothing follows. */
  ending = false;
  /** What the next read asks for, in bytes. */
  readBytes = FIRST_READ_BYTES;
  /** A CREDIT_REQUEST is out, and nothing has come of it yet. */
  creditAsked = false;
  opener: Opener | undefined;
  /** Why the connection was cut short, for the log; undefined while it was not. */
  abortReason: string | undefined;

  /** Links and marks of the lists that the owner keeps. */
  nextOfKey: Connection | undefined;
  nextControl: Connection | undefined;
  nextData: Connection | undefined;
  inControlList = false;
  inDataList = false;

  readonly sendCredit = new SendCredit();
  readonly receiveCredit: ReceiveCredit;
  #fd = -1;
  #token = 0;
  #outWatched = false;
  #spill: SpillRing | undefined;
  #timer: Timer | undefined;
  /** End of file was read from the host. */
  #hostEnded = false;
  /** Both directions of the host socket are over: its program closed it, or each side has shut its half. */
  #bothEnded = false;
  /** Bytes from the guest could not be delivered: this connection must end in a reset. */
  #bytesLost = false;

  constructor(
    readonly owner: ConnectionOwner,
    readonly hostPort: number,
    readonly guestPort: number,
    state: "connecting" | "requesting",
    bufferBytes: number,
  ) {
    this.state = state;
    this.receiveCredit = new ReceiveCredit(bufferBytes);
  }

  get fd(): number {
    return this.#fd;
  }

  /** Bytes from the guest that wait for the host socket. */
  get spilledBytes(): number {
    return this.#spill?.length ?? 0;
  }

  /** Takes over a connected, non-blocking descriptor and begins to watch it. */
  attach(fd: number): void {
    this.#fd = fd;
    this.#token = this.owner.loop.watch(fd, WATCHED, this);
  }

  /** Starts a deadline, in place of the one before. */
  setDeadline(delayMs: number, expired: () => void): void {
    this.#timer?.cancel();
    this.#timer = this.owner.loop.setTimer(delayMs, expired);
  }

  clearDeadline(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #enter(next: ConnectionState): void {
    if (!NEXT_STATES[this.state].includes(next)) {
      throw new Error(`connection ${this.describe()}: no way from ${this.state} to ${next}`);
    }
    this.state = next;
  }

  describe(): string {
    return `guest port ${this.guestPort}, host port ${this.hostPort}`;
  }

  establish(): void {
    this.#enter("established");
    this.clearDeadline();
    const opener = this.opener;
    this.opener = undefined;
    opener?.connected(this);
    if (this.readable) this.owner.dataDue(this);
  }

  /** Adds `Due` bits. */
  makeDue(bits: number): void {
    this.due |= bits;
    this.owner.controlDue(this);
  }

  // ---- guest to host ----

  /** True if payload of a packet can go straight into the host socket: nothing waits before it. */
  get directWrite(): boolean {
    return this.#spill === undefined || this.#spill.length === 0;
  }

  /** True if the host side takes no more bytes: what the guest sends is lost. */
  get hostGone(): boolean {
    return this.#bytesLost;
  }

  /** Copies the payload of a packet, whose `packet` segments begin with the header, behind what already waits. */
  spillPacket(packet: SegmentList, payloadBytes: number): void {
    let skip = HEADER_BYTES;
    let left = payloadBytes;
    for (let index = 0; left > 0; index++) {
      const length = packet.length[index];
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const bytes = Math.min(length - skip, left);
      this.#spillBytes(packet.address[index] + skip, bytes);
      left -= bytes;
      skip = 0;
    }
  }

  #spillBytes(address: number, length: number): void {
    this.#spill ??= new SpillRing(this.receiveCredit.bufAlloc);
    this.#spill.append(address, length);
  }

  /** Writes a batch of payload; the part that the socket does not take goes into the spill ring. */
  writeBatch(batch: IovecList): void {
    const written = batch.writeTo(this.#fd);
    if (written === batch.totalBytes) {
      this.receiveCredit.forward(written);
    } else if (written >= 0 || written === -errno.EAGAIN) {
      const taken = Math.max(written, 0);
      this.receiveCredit.forward(taken);
      this.#spillRest(batch, taken);
      this.#watchOut(true);
    } else {
      this.#hostRefuses(written);
      return;
    }
    this.tellCredit();
  }

  #spillRest(batch: IovecList, taken: number): void {
    let skip = taken;
    for (let index = 0; index < batch.count; index++) {
      const length = batch.length(index);
      if (skip >= length) {
        skip -= length;
        continue;
      }
      this.#spillBytes(batch.address(index) + skip, length - skip);
      skip = 0;
    }
  }

  /** Has what waits written as soon as the socket has room; after `spillPacket`. */
  flushSoon(): void {
    this.#watchOut(true);
  }

  #flushSpill(): void {
    const spill = this.#spill;
    if (spill === undefined) return;
    while (spill.length > 0) {
      const written = spill.writeTo(this.#fd);
      if (written === -errno.EAGAIN) break;
      if (written < 0) {
        this.#hostRefuses(written);
        return;
      }
      this.receiveCredit.forward(written);
    }
    if (spill.length > 0) {
      this.tellCredit();
      return;
    }
    this.#watchOut(false);
    if (this.state === "draining") {
      this.#release();
      return;
    }
    this.tellCredit();
    this.#afterDelivery();
  }

  #watchOut(wanted: boolean): void {
    if (wanted === this.#outWatched) return;
    this.#outWatched = wanted;
    this.owner.loop.modify(this.#fd, wanted ? WATCHED | EPOLLOUT : WATCHED, this.#token);
  }

  /** Makes a CREDIT_UPDATE due if the guest should hear of freed space. */
  tellCredit(): void {
    if (this.receiveCredit.shouldTell && this.state === "established") this.makeDue(Due.CREDIT_UPDATE);
  }

  /** The host program reads no more: bytes that the guest sent are lost, so this ends in a reset. */
  #hostRefuses(result: number): void {
    this.#bytesLost = true;
    this.#dropSpill();
    this.receiveCredit.forgive();
    if (this.state === "draining") {
      this.#release();
    } else if (this.#hostEnded || this.state === "closing") {
      this.abort();
    } else {
      // What the host program had sent before is still delivered; the reset follows at its end.
      if (result !== -errno.EPIPE) this.ending = true;
      this.#sendShutdown(Shutdown.RECEIVE);
      this.readable = true;
      this.owner.dataDue(this);
    }
  }

  // ---- what the guest says ----

  /** A SHUTDOWN packet; its flags are permanent and add up. */
  guestShutsDown(flags: number): void {
    const added = flags & Shutdown.BOTH & ~this.guestShutdown;
    this.guestShutdown |= added;
    if ((added & Shutdown.RECEIVE) !== 0) shutdownSocket(this.#fd, SHUT_RD);
    if (this.directWrite) this.#afterDelivery();
  }

  /** Called when nothing waits for the host socket: passes on what the guest has shut down. */
  #afterDelivery(): void {
    if (this.guestShutdown === Shutdown.BOTH) this.#finish();
    else if ((this.guestShutdown & Shutdown.SEND) !== 0) shutdownSocket(this.#fd, SHUT_WR);
  }

  /** virtio 1.4, 5.10.6.6: a clean close is a SHUTDOWN of both directions, answered by RST. */
  #finish(): void {
    this.owner.detach(this, true);
    this.#release();
  }

  /** A RST packet, or the guest's transport is gone: what it had sent is still delivered. */
  guestIsGone(): void {
    this.owner.detach(this, false);
    this.#drainOrRelease();
  }

  #drainOrRelease(): void {
    if (this.spilledBytes === 0) {
      this.#release();
      return;
    }
    this.#enter("draining");
    this.due = 0;
    this.setDeadline(this.owner.limits.drainTimeoutMs, () => this.#release());
  }

  // ---- host to guest ----

  onEvents(events: number): void {
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.#hostStirs(events);
    if ((events & EPOLLOUT) !== 0 && this.state !== "closed") this.#flushSpill();
  }

  #hostStirs(events: number): void {
    const gone = (events & (EPOLLHUP | EPOLLERR)) !== 0;
    if (this.state === "draining") {
      if (gone) this.#release();
      return;
    }
    if (this.state === "requesting" && gone) {
      this.abandon("the host program closed its socket before the guest answered");
      return;
    }
    this.readable = true;
    if ((events & EPOLLRDHUP) !== 0 || gone) this.ending = true;
    if (gone) this.#bothEnded = true;
    if (this.state === "established") this.owner.dataDue(this);
  }

  /** True if reading for the guest makes sense now, credit aside. */
  get wantsRead(): boolean {
    return this.readable && this.state === "established";
  }

  /** The guest will take no more: nothing is read, only the end of the host socket is noticed. */
  get readClosed(): boolean {
    return (this.guestShutdown & Shutdown.RECEIVE) !== 0;
  }

  /** A read returned `result` <= 0 (end of file or `-errno`), or reading is closed and the host socket ended. */
  readEnded(result: number): void {
    this.readable = false;
    if (result === -errno.EAGAIN) return;
    if (result < 0) {
      // ECONNRESET: the program closed its socket with bytes unread, so what the guest sent is lost.
      this.#bytesLost = true;
      this.abort(`the host socket failed with ${errnoName(-result)}`);
      return;
    }
    this.#hostEnded = true;
    if (this.#bytesLost) this.abort("the host program closed its socket before it had read everything");
    else this.#sendShutdown(this.#bothEnded ? Shutdown.BOTH : Shutdown.SEND);
  }

  /** The guest takes no more data; all that is left to notice is the end of the host socket. */
  readWhenClosed(): void {
    this.readable = false;
    if (this.#bothEnded) this.readEnded(0);
  }

  /** Data waits, and the guest gave no credit for it: ask, once. */
  stalled(): void {
    if (this.creditAsked) return;
    this.creditAsked = true;
    this.makeDue(Due.CREDIT_REQUEST);
  }

  #sendShutdown(flags: number): void {
    if ((this.sentShutdown & flags) === flags) return;
    this.sentShutdown |= flags;
    this.makeDue(Due.SHUTDOWN);
    if (this.sentShutdown !== Shutdown.BOTH) return;
    this.#enter("closing");
    this.setDeadline(this.owner.limits.shutdownTimeoutMs, () =>
      this.abort("the guest did not answer SHUTDOWN"),
    );
  }

  // ---- the end ----

  /** Ends the connection with a reset to the guest. */
  abort(reason = "the host program closed its socket before it had read everything"): void {
    this.abortReason = reason;
    this.owner.detach(this, true);
    if (this.#bytesLost) this.#release();
    else this.#drainOrRelease();
  }

  /** Ends a connection that was never established. A guest that has sent or seen its REQUEST is told, unless it spoke last. */
  abandon(reason: string, byGuest = false): void {
    const guestWaits = this.state === "connecting" || (this.due & Due.REQUEST) === 0;
    const opener = this.opener;
    this.opener = undefined;
    this.owner.detach(this, guestWaits && !byGuest);
    this.#release();
    opener?.failed(reason);
  }

  /** Ends a connection that drains, whatever still waits. */
  discard(): void {
    this.#release();
  }

  #dropSpill(): void {
    this.#spill?.close();
    this.#spill = undefined;
  }

  #release(): void {
    this.#enter("closed");
    this.clearDeadline();
    this.#dropSpill();
    this.due = 0;
    if (this.#fd >= 0) {
      this.owner.loop.unwatch(this.#fd, this.#token);
      closeSync(this.#fd);
      this.#fd = -1;
    }
    this.owner.released(this);
  }
}
