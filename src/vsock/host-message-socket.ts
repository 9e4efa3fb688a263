/**
 * The host's end of one seqpacket connection: its descriptor, and the messages from the guest that are not complete yet
 * or wait while the socket takes no more. A message enters the socket by one system call, whole. Must not know packets,
 * states or when a connection ends (`seqpacket-connection.ts`).
 *
 * A message in one packet goes straight from guest memory into the socket. The parts of a longer one are put together
 * in the spill ring, as are messages that the socket has no room for: all of that together is never more than the
 * credit's `bufAlloc`, since what has not entered the socket does not count as forwarded.
 */
import { closeDescriptor } from "../linux/close.js";
import { EPOLLOUT } from "../linux/epoll.js";
import { errno } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import type { IovecList } from "../linux/iovec.js";
import { isOutOfMemory } from "../linux/mapping.js";
import { sendEmptyMessage } from "../linux/seqpacket.js";
import { shutdownSocket } from "../linux/unix-socket.js";
import type { ReceiveCredit } from "./credit.js";
import { type HostSide, WATCHED } from "./host-socket.js";
import { LengthQueue } from "./length-queue.js";
import { MOST_EMPTY_MESSAGES } from "./limits.js";
import { spillPool } from "./spill-pool.js";
import type { SpillRing } from "./spill-ring.js";

/** `write`: more messages wait than can be counted, which takes many empty ones. */
export const TOO_MANY_MESSAGES = -errno.E2BIG;

export class HostMessageSocket implements HostSide {
  readonly #loop: EventLoop;
  readonly #token: number;
  /** What enters the socket counts as forwarded here. */
  readonly #credit: ReceiveCredit;
  /** Complete messages, and behind them the parts of the one that is not. */
  #spill: SpillRing | undefined;
  /** Of the complete ones. Made on first use. */
  #lengths: LengthQueue | undefined;
  #completeBytes = 0;
  /** Bytes of the message whose end has not come. */
  partBytes = 0;
  #outWatched = false;

  private constructor(
    loop: EventLoop,
    readonly fd: number,
    token: number,
    credit: ReceiveCredit,
  ) {
    this.#loop = loop;
    this.#token = token;
    this.#credit = credit;
  }

  /** As `HostSocket.open`; the caller has seen to it that the socket takes messages of `credit.bufAlloc`. */
  static open(
    loop: EventLoop,
    fd: number,
    handler: EventHandler,
    credit: ReceiveCredit,
    watched?: number,
  ): HostMessageSocket | number {
    if (watched !== undefined) loop.redirect(watched, handler);
    const token = watched ?? loop.tryWatch(fd, WATCHED, handler);
    if (token >= 0) return new HostMessageSocket(loop, fd, token, credit);
    closeDescriptor(fd);
    return token;
  }

  get isDelivered(): boolean {
    return this.#lengths === undefined || this.#lengths.count === 0;
  }

  get waitingBytes(): number {
    return this.#completeBytes;
  }

  /** Takes a part of a message, and with `endsMessage` the whole of it: 0, or `-errno`, and the message is lost. */
  write(batch: IovecList, endsMessage: boolean): number {
    if (endsMessage && this.partBytes === 0 && this.isDelivered) {
      const written = batch.totalBytes === 0 ? sendEmptyMessage(this.fd) : batch.writeTo(this.fd);
      if (written !== -errno.EAGAIN) return this.#entered(written, batch.totalBytes);
    }
    const kept = this.#keep(batch);
    if (kept < 0 || !endsMessage) return kept;
    this.#lengths ??= new LengthQueue(this.#credit.bufAlloc + MOST_EMPTY_MESSAGES);
    if (!this.#lengths.push(this.partBytes)) return TOO_MANY_MESSAGES;
    this.#completeBytes += this.partBytes;
    this.partBytes = 0;
    return this.#lengths.count === 1 ? this.flush() : 0;
  }

  /** The kernel takes a message whole or not at all; should it ever not, the connection cannot go on. */
  #entered(written: number, bytes: number): number {
    if (written < 0) return written;
    if (written !== bytes) return -errno.EMSGSIZE;
    this.#credit.forward(bytes);
    return 0;
  }

  #keep(batch: IovecList): number {
    if (batch.totalBytes === 0) return 0;
    try {
      this.#spill ??= spillPool.take(this.#credit.bufAlloc);
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      return -errno.ENOMEM;
    }
    this.#spill.appendBatch(batch, 0);
    this.partBytes += batch.totalBytes;
    return 0;
  }

  /** Writes the messages that wait, as far as the socket takes them: 0, or `-errno`. */
  flush(): number {
    const lengths = this.#lengths;
    while (lengths !== undefined && lengths.count > 0) {
      const length = lengths.first;
      const written = this.#writeFirst(length);
      if (written === -errno.EAGAIN) {
        this.#watchOut(true);
        return 0;
      }
      const entered = this.#entered(written, length);
      if (entered < 0) return entered;
      lengths.shift();
      this.#completeBytes -= length;
    }
    if (this.partBytes === 0) this.drop();
    this.#watchOut(false);
    return 0;
  }

  #writeFirst(length: number): number {
    if (length === 0 || this.#spill === undefined) return sendEmptyMessage(this.fd);
    return this.#spill.writeTo(this.fd, length);
  }

  #watchOut(wanted: boolean): void {
    if (wanted === this.#outWatched) return;
    this.#outWatched = wanted;
    this.#loop.modify(this.fd, wanted ? WATCHED | EPOLLOUT : WATCHED, this.#token);
  }

  drop(): void {
    if (this.#spill !== undefined) spillPool.giveBack(this.#spill);
    this.#spill = undefined;
    this.#lengths = undefined;
    this.#completeBytes = 0;
    this.partBytes = 0;
  }

  shutdown(how: number): void {
    shutdownSocket(this.fd, how);
  }

  close(): void {
    this.drop();
    this.#loop.unwatchAndClose(this.fd, this.#token);
  }
}
