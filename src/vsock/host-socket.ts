/**
 * The host's end of one connection: its descriptor, the loop's watch on it, and the spill ring in which bytes from the
 * guest wait while it takes no more. Must not know packets, states or when a connection ends (`connection.ts`).
 */
import { closeDescriptor } from "../linux/close.js";
import { EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from "../linux/epoll.js";
import { errno } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import type { IovecList } from "../linux/iovec.js";
import { isOutOfMemory } from "../linux/mapping.js";
import { isUnixSocket, sendBufferBytes, setSendBuffer, shutdownSocket } from "../linux/unix-socket.js";
import type { ReceiveCredit } from "./credit.js";
import { spillPool } from "./spill-pool.js";
import type { SpillRing } from "./spill-ring.js";

/** What each host socket is watched for, as long as nothing waits for it. */
export const WATCHED = EPOLLIN | EPOLLRDHUP | EPOLLET;

/** What a connection needs of its end on the host, whether that is a stream or keeps messages apart. */
export interface HostSide {
  readonly fd: number;
  /** Nothing that is complete waits for the socket. */
  readonly isDelivered: boolean;
  /** Bytes that do. */
  readonly waitingBytes: number;
  /** Takes a batch: 0, or `-errno`, and the rest of it is lost. `endsMessage` means something between messages only. */
  write(batch: IovecList, endsMessage: boolean): number;
  /** Writes what waits, as far as the socket takes it: 0, or `-errno`. */
  flush(): number;
  /** Gives up what waits. */
  drop(): void;
  /** `SHUT_RD`: the guest takes no more. `SHUT_WR`: it sends no more, and nothing waits. */
  shutdown(how: number): void;
  close(): void;
}

export class HostSocket implements HostSide {
  readonly #loop: EventLoop;
  readonly #token: number;
  /** What enters the socket counts as forwarded here. */
  readonly #credit: ReceiveCredit;
  #spill: SpillRing | undefined;
  readonly #widens: boolean;
  /** The window that the socket was made to hold last. */
  #widenedTo = 0;
  #outWatched = false;

  private constructor(
    loop: EventLoop,
    readonly fd: number,
    token: number,
    credit: ReceiveCredit,
    widens: boolean,
  ) {
    this.#loop = loop;
    this.#token = token;
    this.#credit = credit;
    this.#widens = widens;
  }

  /**
   * Takes over a connected, non-blocking descriptor and begins to watch it for `handler`, edge-triggered; or `-errno`,
   * and it is closed. `widens`: its send buffer is made to hold the guest's window once it has been full. A descriptor
   * that is `WATCHED` already comes with its token; what that has reported, `handler` must be told.
   */
  static open(
    loop: EventLoop,
    fd: number,
    handler: EventHandler,
    credit: ReceiveCredit,
    widens: boolean,
    watched?: number,
  ): HostSocket | number {
    if (watched !== undefined) loop.redirect(watched, handler);
    const token = watched ?? loop.tryWatch(fd, WATCHED, handler);
    if (token >= 0) return new HostSocket(loop, fd, token, credit, widens);
    closeDescriptor(fd);
    return token;
  }

  /** Bytes from the guest that wait for the socket; at most the credit's `bufAlloc`, which bounds what the guest sends. */
  get waitingBytes(): number {
    return this.#spill?.length ?? 0;
  }

  get isDelivered(): boolean {
    return this.waitingBytes === 0;
  }

  /**
   * Takes a batch: into the socket, behind what already waits if anything does. The part that the socket does not take
   * waits in the spill ring. 0, or `-errno`, and the rest of the batch is lost (-ENOMEM: there is no memory for it).
   */
  write(batch: IovecList): number {
    const written = this.waitingBytes === 0 ? batch.writeTo(this.fd) : -errno.EAGAIN;
    if (written < 0 && written !== -errno.EAGAIN) return written;
    const taken = Math.max(written, 0);
    this.#credit.forward(taken);
    if (taken === batch.totalBytes) return 0;
    if (this.#widens && this.#widenedTo < this.#credit.bufAlloc) this.#widen();
    return this.#keep(batch, taken);
  }

  /**
   * A Unix socket's usual 208 KiB would leave the tail of each window to the spill ring: one more copy, and two changes
   * of the watch. Linux doubles what is asked for, since it counts its own overhead as well (socket(7), SO_SNDBUF), and
   * allows no more than net.core.wmem_max; with less, the spill ring takes the rest. A TCP socket is left alone: it grows by
   * itself, further than this, until somebody sets its size (tcp(7), tcp_wmem).
   */
  #widen(): void {
    const { bufAlloc } = this.#credit;
    this.#widenedTo = bufAlloc;
    if (isUnixSocket(this.fd) && sendBufferBytes(this.fd) < 2 * bufAlloc) setSendBuffer(this.fd, bufAlloc);
  }

  #keep(batch: IovecList, taken: number): number {
    try {
      this.#spill ??= spillPool.take(this.#credit.bufAlloc);
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      return -errno.ENOMEM;
    }
    this.#spill.appendBatch(batch, taken);
    this.#watchOut(true);
    return 0;
  }

  /** Writes what waits, as far as the socket takes it: 0, or `-errno`. */
  flush(): number {
    while (this.#spill !== undefined && this.#spill.length > 0) {
      const written = this.#spill.writeTo(this.fd);
      if (written === -errno.EAGAIN) return 0;
      if (written < 0) return written;
      this.#credit.forward(written);
    }
    this.drop();
    this.#watchOut(false);
    return 0;
  }

  #watchOut(wanted: boolean): void {
    if (wanted === this.#outWatched) return;
    this.#outWatched = wanted;
    this.#loop.modify(this.fd, wanted ? WATCHED | EPOLLOUT : WATCHED, this.#token);
  }

  /** Gives up what waits. */
  drop(): void {
    if (this.#spill !== undefined) spillPool.giveBack(this.#spill);
    this.#spill = undefined;
  }

  shutdown(how: number): void {
    shutdownSocket(this.fd, how);
  }

  close(): void {
    this.drop();
    this.#loop.unwatchAndClose(this.fd, this.#token);
  }
}
