/**
 * One connection between a guest port and a host descriptor; of a stream, unless `seqpacket-connection.ts` says otherwise.
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
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import type { IovecList } from "../linux/iovec.js";
import { Place } from "../linux/linked-list.js";
import type { Timer, TimerHandler } from "../linux/timers.js";
import { peekByte, SHUT_RD, SHUT_WR } from "../linux/unix-socket.js";
import { type ConnectionState, NEXT_STATES } from "./connection-state.js";
import type { ResetCause, SwitchCounters } from "./counters.js";
import { ReceiveCredit, SendCredit } from "./credit.js";
import { HOST_CID, Shutdown, SocketType } from "./header.js";
import { type HostSide, HostSocket } from "./host-socket.js";
import {
  FIRST_CREDIT_REQUEST_MS,
  FIRST_READ_BYTES,
  LONGEST_CREDIT_REQUEST_MS,
  type SwitchLimits,
} from "./limits.js";

/** Control packets that are due to the guest; several may be at once. */
export const Due = { REQUEST: 1, RESPONSE: 2, CREDIT_UPDATE: 4, CREDIT_REQUEST: 8, SHUTDOWN: 16 } as const;

/** What a connection asks of its switch. */
export interface ConnectionOwner {
  readonly loop: EventLoop;
  readonly limits: SwitchLimits;
  readonly counters: SwitchCounters;
  /** The connection has control packets for the guest (`due` is not 0). */
  controlDue(connection: Connection): void;
  /** The connection may have data for the guest. */
  dataDue(connection: Connection): void;
  /** The host listener, whose backlog was full, may be tried again. */
  retry(connection: Connection): void;
  /** What its buffer may grow to from `bytes`: the same again and again when there is no more to give. */
  growBuffer(bytes: number): number;
  /** It was given `bytes` more of buffer than it can use. */
  bufferReturned(bytes: number): void;
  /** The guest's side is over: forget its ports, and send the guest a reset if `tellGuest`. */
  detach(connection: Connection, tellGuest: boolean): void;
  /** The guest's side is over, and what it had sent still waits for the host program. */
  drains(connection: Connection): void;
  /**
   * Everything is over; the descriptor is closed. `undeliveredBytes` were acknowledged to a guest that is gone, and
   * the host program did not take them.
   */
  released(connection: Connection, undeliveredBytes: number): void;
}

/** Who asked for a connection to the guest and waits for the outcome. One of the two is called, once. */
export interface Opener {
  connected(connection: Connection): void;
  failed(reason: string, guestPort: number): void;
}

export class Connection implements EventHandler, TimerHandler {
  /** What goes to the guest is read from a descriptor, as bytes. */
  readonly readsStream: boolean = true;
  /** `SocketType`: what its packets carry. */
  readonly type: number = SocketType.STREAM;
  /** Whose port `hostPort` is: the host's, unless `sibling-connection.ts` says otherwise. */
  readonly farCid: number = HOST_CID;
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
  opener: Opener | undefined;
  /** Until when a host listener whose backlog is full is tried. */
  retryUntilMs = 0;
  /** Why the connection was cut short, for the log; undefined while it was not. */
  abortReason: string | undefined;
  abortCause: ResetCause = "host";

  /** The link and the places in lists that the owner keeps. */
  nextOfBucket: Connection | undefined;
  readonly controlPlace = new Place<Connection>(this);
  readonly dataPlace = new Place<Connection>(this);

  readonly sendCredit = new SendCredit();
  readonly receiveCredit: ReceiveCredit;
  /** There is none while a host listener is still tried, and after the end. */
  protected host: HostSide | undefined;
  /** For the state that it is in: see `onTimer`. */
  #deadline: Timer | undefined;
  /** Data waits for credit. */
  #waitsForCredit = false;
  /** How often it has come to that. */
  #creditWaits = 0;
  /** Left to run when credit comes: a stream would start and cancel one with each window. */
  #creditTimer: Timer | undefined;
  /** What it was started with, and for which of the waits. */
  #creditDelayMs = 0;
  #creditTimerWait = 0;
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

  /** The host's descriptor; -1 if there is none. */
  get fd(): number {
    return this.host?.fd ?? -1;
  }

  /** Everything that the guest has sent and that can be passed on is in the host socket. */
  get #isDelivered(): boolean {
    return this.host?.isDelivered ?? true;
  }

  /** Bytes from the guest that wait for the host socket. */
  get spilledBytes(): number {
    return this.host?.waitingBytes ?? 0;
  }

  /**
   * Takes over a connected, non-blocking descriptor and begins to watch it: 0, or `-errno`, and it is closed. See
   * `HostSocket.open` for one that is `watched`.
   */
  attach(fd: number, watched?: number): number {
    const host = this.openHost(fd, watched);
    if (typeof host === "number") return host;
    this.host = host;
    return 0;
  }

  protected openHost(fd: number, watched?: number): HostSide | number {
    const { loop, limits } = this.owner;
    return HostSocket.open(loop, fd, this, this.receiveCredit, limits.widensSockets, watched);
  }

  /** Starts the deadline of the present state, in place of the one before. */
  setDeadline(delayMs: number): void {
    this.#deadline ??= this.owner.loop.timerFor(this);
    this.#deadline.start(delayMs);
  }

  onTimer(): void {
    const { limits, counters } = this.owner;
    if (this.state === "connecting") this.owner.retry(this);
    else if (this.state === "requesting") {
      counters.refusedBy.timeout++;
      this.abandon(`the guest did not answer within ${limits.connectTimeoutMs} ms`);
    } else if (this.state === "closing") this.abort("the guest did not answer SHUTDOWN", "timeout");
  }

  #clearTimers(): void {
    this.#deadline?.cancel();
    this.#creditTimer?.cancel();
  }

  #enter(next: ConnectionState): void {
    if (!NEXT_STATES[this.state].includes(next)) {
      throw new Error(`connection ${this.describe()}: no way from ${this.state} to ${next}`);
    }
    this.state = next;
    this.#clearTimers();
  }

  describe(): string {
    return `guest port ${this.guestPort}, host port ${this.hostPort}`;
  }

  establish(): void {
    this.#enter("established");
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

  /** True if the host side takes no more bytes: what the guest sends is lost. */
  get hostGone(): boolean {
    return this.#bytesLost || this.host === undefined;
  }

  /** Takes a batch of payload for the host. */
  writeBatch(batch: IovecList): void {
    const result = this.host?.write(batch, true) ?? 0;
    if (result < 0) {
      this.hostRefuses(result);
      return;
    }
    this.growBuffer(batch.totalBytes);
    this.tellCredit();
  }

  /**
   * A guest that sends a quarter of its window at once, to a host socket that takes it, is held up by its credit: it has
   * none left before the answer to what it sent has come. Others keep what they have, so that thousands of connections
   * that do little leave room for the few that do much.
   */
  protected growBuffer(bytesAtOnce: number): void {
    const { bufAlloc } = this.receiveCredit;
    if (4 * bytesAtOnce < bufAlloc || bufAlloc >= this.owner.limits.bufferBytes || this.spilledBytes > 0)
      return;
    this.receiveCredit.grow(this.owner.growBuffer(bufAlloc));
  }

  #flushSpill(): void {
    const result = this.host?.flush() ?? 0;
    if (result < 0) {
      this.hostRefuses(result);
    } else if (this.#isDelivered && this.state === "draining") {
      this.#release();
    } else {
      this.tellCredit();
      if (this.#isDelivered) this.#afterDelivery();
    }
  }

  /** Makes a CREDIT_UPDATE due if the guest should hear of freed space. */
  tellCredit(): void {
    if (this.state === "established" && this.receiveCredit.shouldTell(this.sendCredit.peerBufAlloc))
      this.makeDue(Due.CREDIT_UPDATE);
  }

  /** The host program reads no more: bytes that the guest sent are lost, so this ends in a reset. */
  protected hostRefuses(result: number): void {
    if (this.state === "draining") {
      this.#release();
      return;
    }
    this.#bytesLost = true;
    this.host?.drop();
    this.receiveCredit.forgive();
    if (result === -errno.ENOMEM) {
      this.abort("there is no memory for what the host program has not read yet");
    } else if (result !== -errno.EPIPE) {
      this.abort(`writing to the host socket failed with ${errnoName(-result)}`);
    } else if (this.#hostEnded || this.state === "closing") {
      this.abort();
    } else {
      // What the host program had sent before is still delivered; the reset follows at its end.
      this.sendShutdown(Shutdown.RECEIVE);
      this.readable = true;
      this.owner.dataDue(this);
    }
  }

  // ---- what the guest says ----

  /** A SHUTDOWN packet; its flags are permanent and add up. */
  guestShutsDown(flags: number): void {
    const added = flags & Shutdown.BOTH & ~this.guestShutdown;
    this.guestShutdown |= added;
    const isDelivered = this.#isDelivered;
    // Where the connection ends here, its descriptor is closed, which says it all.
    const isOver = isDelivered && this.guestShutdown === Shutdown.BOTH;
    if ((added & Shutdown.RECEIVE) !== 0 && !isOver) this.host?.shutdown(SHUT_RD);
    if (isDelivered) this.#afterDelivery();
  }

  /** Called when nothing waits for the host socket: passes on what the guest has shut down. */
  #afterDelivery(): void {
    if (this.guestShutdown === Shutdown.BOTH) this.#finish();
    else if ((this.guestShutdown & Shutdown.SEND) !== 0) this.host?.shutdown(SHUT_WR);
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

  /**
   * What waits stays until the host program takes it or goes: it cannot be told from a slow one, and giving up would
   * end its stream as if that were all. Bounded, because such a connection counts against all limits.
   */
  #drainOrRelease(): void {
    if (this.#isDelivered) {
      this.#release();
      return;
    }
    this.#enter("draining");
    this.owner.drains(this);
    this.due = 0;
    this.controlPlace.leave();
    this.dataPlace.leave();
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
    else this.sendShutdown(this.#bothEnded ? Shutdown.BOTH : Shutdown.SEND);
  }

  /** Instead of a read, when the guest takes no more: notices the end of the host socket. */
  lookWithoutReading(): void {
    this.creditCame();
    if (!this.#bothEnded) this.readable = false;
    else this.readEnded(Math.min(this.peekHost(), 0));
  }

  /** Whether there is something to read: positive if so, 0 at the end, or `-errno`. */
  protected peekHost(): number {
    return peekByte(this.fd);
  }

  /**
   * Instead of a read, when the guest gives no credit. The end of the host socket needs none; what there is otherwise
   * waits, and more of it is no news.
   */
  waitForCredit(): void {
    if (this.ending) {
      const found = this.peekHost();
      if (found <= 0) {
        this.readEnded(found);
        return;
      }
    }
    if (this.#waitsForCredit) return;
    this.#waitsForCredit = true;
    this.#creditWaits++;
    this.owner.counters.creditStalls++;
    // Not what is left of a long wait before this one.
    if (this.#creditTimer?.isRunning !== true || this.#creditDelayMs > FIRST_CREDIT_REQUEST_MS)
      this.#askLater(FIRST_CREDIT_REQUEST_MS);
  }

  /**
   * Asks for credit when none has come by itself, and again at growing intervals: the guest answers with what its
   * application has taken so far, perhaps nothing. Not at once, because each answer would release a few bytes.
   * Needed: Linux before 6.8 says nothing while more than 64 KiB of its buffer is free, and that is where many small
   * packets come to a halt (`PACKET_OVERHEAD_BYTES`); and an update is due to nobody who does not ask.
   */
  #askLater(delayMs: number): void {
    this.#creditDelayMs = delayMs;
    this.#creditTimerWait = this.#creditWaits;
    this.#creditTimer ??= this.owner.loop.timerFor({
      onTimer: () => {
        const isSameWait = this.#creditTimerWait === this.#creditWaits;
        if (this.#waitsForCredit) this.#stillWaiting(isSameWait ? this.#creditDelayMs : 0);
      },
    });
    this.#creditTimer.start(delayMs);
  }

  /** `waitedMs`: how long for this credit; 0 if it is another wait than the one that the timer was started for. */
  #stillWaiting(waitedMs: number): void {
    const found = this.peekHost();
    if (found <= 0) {
      // Nothing waits after all: the last read had just emptied the socket.
      this.creditCame();
      this.readEnded(found);
      return;
    }
    if (waitedMs > 0) this.makeDue(Due.CREDIT_REQUEST);
    else this.#askLater(FIRST_CREDIT_REQUEST_MS);
  }

  /** The CREDIT_REQUEST that is due goes out. The next one is not before it: a guest that is stopped wakes nobody. */
  askForCredit(): void {
    this.due &= ~Due.CREDIT_REQUEST;
    if (this.#waitsForCredit && this.#creditTimer?.isRunning !== true)
      this.#askLater(Math.min(this.#creditDelayMs * 4, LONGEST_CREDIT_REQUEST_MS));
  }

  /** There is credit (again). */
  creditCame(): void {
    this.#waitsForCredit = false;
  }

  protected sendShutdown(flags: number): void {
    if ((this.sentShutdown & flags) === flags) return;
    this.sentShutdown |= flags;
    this.makeDue(Due.SHUTDOWN);
    if (this.sentShutdown !== Shutdown.BOTH) return;
    this.#enter("closing");
    this.setDeadline(this.owner.limits.shutdownTimeoutMs);
  }

  // ---- the end ----

  /** Ends the connection with a reset to the guest. */
  abort(
    reason = "the host program closed its socket before it had read everything",
    cause: ResetCause = "host",
  ): void {
    this.abortReason = reason;
    this.abortCause = cause;
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
    opener?.failed(reason, this.guestPort);
  }

  /** Ends a connection that drains, whatever still waits. */
  discard(): void {
    this.#release();
  }

  #release(): void {
    const undeliveredBytes = this.state === "draining" ? this.spilledBytes : 0;
    this.#enter("closed");
    this.due = 0;
    this.controlPlace.leave();
    this.dataPlace.leave();
    this.host?.close();
    this.host = undefined;
    this.owner.released(this, undeliveredBytes);
  }
}
