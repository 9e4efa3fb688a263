/**
 * One direction between two sibling guests, as the sender's end sees it (`HostSide`): bytes leave the sender's memory for
 * the receiver's, at once if the receiver has buffers and credit for them; what it has not, waits in the spill ring, so
 * that a slow receiver holds up nobody. Only what is in the receiver's buffers counts as forwarded. Moved by memcpy, one
 * call for each pair of pieces: measured, process_vm_readv over all pieces of 64 KiB takes half as long again, and of a
 * small packet ten times as long; preadv of the memory's file over the pieces of 64 KiB a quarter as long again.
 *
 * What lies in the sender's memory is looked at within one `write` only: after it, its mapping may be another.
 * Hot path: allocates nothing per packet. Must not know states or when a connection ends (`sibling-connection.ts`).
 */
import { errno } from "../linux/errors.js";
import type { IovecList } from "../linux/iovec.js";
import { copyMemory, isOutOfMemory } from "../linux/mapping.js";
import { SHUT_RD } from "../linux/unix-socket.js";
import type { ReceiveCredit } from "./credit.js";
import { MessageEnd } from "./header.js";
import type { HostSide } from "./host-socket.js";
import { LengthQueue } from "./length-queue.js";
import { MOST_EMPTY_MESSAGES } from "./limits.js";
import { spillPool } from "./spill-pool.js";
import type { SpillRing } from "./spill-ring.js";

/** What a pipe asks of the two ends that it connects. */
export interface PipeEnds {
  /** Bytes wait that were not there before. They may be taken before this returns. */
  arrived(): void;
  /** Bytes that waited in the spill ring have gone. */
  left(): void;
  /** The sender ends its direction, or has gone altogether: `close`. */
  senderEnds(): void;
  senderIsGone(): void;
  /** The receiver ends its own use of it. */
  receiverEnds(): void;
}

export class SiblingPipe implements HostSide {
  /** There is no descriptor: the other end is a guest. */
  readonly fd = -1;
  readonly #credit: ReceiveCredit;
  readonly #ends: PipeEnds;
  #spill: SpillRing | undefined;
  /** What is being written, and how far it has been taken: the entry, and the bytes of it. */
  #batch: IovecList | undefined;
  #batchEntry = 0;
  #batchOffset = 0;
  #batchLeft = 0;
  /** Of seqpacket sockets: the lengths of the messages whose end has come, twice, and 1 more if EOR is due with it. */
  #messages: LengthQueue | undefined;
  /** Bytes of the first of them, or of the one whose end has not come, that were taken; and those that came of the latter. */
  #taken = 0;
  partBytes = 0;
  /** The receiver takes no more. */
  refuses = false;

  constructor(credit: ReceiveCredit, ends: PipeEnds) {
    this.#credit = credit;
    this.#ends = ends;
  }

  get waitingBytes(): number {
    return (this.#spill?.length ?? 0) + this.#batchLeft;
  }

  get #waitingMessages(): number {
    return this.#messages?.count ?? 0;
  }

  get isDelivered(): boolean {
    return this.#spill === undefined && this.#batchLeft === 0 && this.#waitingMessages === 0;
  }

  // ---- the sender ----

  /**
   * Notes that a packet of `bytes` belongs to a message, which it ends if `flags` (`MessageEnd`) say so; `write` brings the
   * bytes. False: more messages wait than can be counted, which takes many empty ones.
   */
  notePart(bytes: number, flags: number): boolean {
    this.partBytes += bytes;
    if ((flags & MessageEnd.EOM) === 0) return true;
    this.#messages ??= new LengthQueue(this.#credit.bufAlloc + MOST_EMPTY_MESSAGES);
    const fits = this.#messages.push(2 * this.partBytes + ((flags & MessageEnd.EOR) !== 0 ? 1 : 0));
    this.partBytes = 0;
    return fits;
  }

  write(batch: IovecList): number {
    if (this.refuses) return -errno.EPIPE;
    this.#batch = batch;
    this.#batchEntry = 0;
    this.#batchOffset = 0;
    this.#batchLeft = batch.totalBytes;
    this.#ends.arrived();
    const result = this.#batchLeft > 0 ? this.#keep(batch) : 0;
    this.#batch = undefined;
    this.#batchLeft = 0;
    return result;
  }

  #keep(batch: IovecList): number {
    try {
      this.#spill ??= spillPool.take(this.#credit.bufAlloc);
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      return -errno.ENOMEM;
    }
    this.#spill.appendBatch(batch, batch.totalBytes - this.#batchLeft);
    return 0;
  }

  /** The receiver takes what waits by itself. */
  flush(): number {
    return 0;
  }

  shutdown(how: number): void {
    if (how === SHUT_RD) this.#ends.receiverEnds();
    else this.#ends.senderEnds();
  }

  drop(): void {
    if (this.#spill !== undefined) spillPool.giveBack(this.#spill);
    this.#spill = undefined;
    this.#messages = undefined;
    this.#batchLeft = 0;
    this.partBytes = 0;
  }

  close(): void {
    this.drop();
    this.#ends.senderIsGone();
  }

  // ---- the receiver ----

  /** Something can be taken: bytes, or a message without any. */
  get hasData(): boolean {
    if (this.waitingBytes > 0) return true;
    return (
      this.#messages !== undefined && this.#messages.count > 0 && this.#messages.first >>> 1 === this.#taken
    );
  }

  /** Bytes that may be taken next: those in the spill ring first, and never beyond the end of a message. */
  get nextBytes(): number {
    const waiting = this.#spill === undefined ? this.#batchLeft : this.#spill.length;
    if (this.#messages === undefined || this.#messages.count === 0) return waiting;
    return Math.min(waiting, (this.#messages.first >>> 1) - this.#taken);
  }

  /** Bytes that were taken of the message that is being taken. */
  get takenOfMessage(): number {
    return this.#taken;
  }

  /** Copies into all of `room`, which has `nextBytes` at most, and returns what the last packet says (`MessageEnd`). */
  take(room: IovecList): number {
    if (this.#spill !== undefined) this.#spill.takeInto(room);
    else this.#takeFromBatch(room);
    return this.#endOf(room.totalBytes);
  }

  /** After `take`, once the packets are made. */
  took(bytes: number): void {
    this.#credit.forward(bytes);
    if (this.#spill !== undefined) {
      if (this.#spill.length > 0) {
        this.#ends.left();
        return;
      }
      spillPool.giveBack(this.#spill);
      this.#spill = undefined;
    }
    // The writer itself sees to what follows from what is left of its batch.
    if (this.#batch === undefined) this.#ends.left();
  }

  #takeFromBatch(room: IovecList): void {
    const batch = this.#batch;
    if (batch === undefined) return;
    for (let index = 0; index < room.count; index++) {
      const wanted = room.length(index);
      for (let done = 0; done < wanted; ) {
        const left = batch.length(this.#batchEntry) - this.#batchOffset;
        const bytes = Math.min(left, wanted - done);
        copyMemory(room.address(index) + done, batch.address(this.#batchEntry) + this.#batchOffset, bytes);
        done += bytes;
        this.#batchOffset += bytes;
        if (bytes === left) {
          this.#batchEntry++;
          this.#batchOffset = 0;
        }
      }
    }
    this.#batchLeft -= room.totalBytes;
  }

  #endOf(bytes: number): number {
    this.#taken += bytes;
    const messages = this.#messages;
    if (messages === undefined || messages.count === 0 || this.#taken < messages.first >>> 1) return 0;
    const flags = MessageEnd.EOM | ((messages.first & 1) !== 0 ? MessageEnd.EOR : 0);
    messages.shift();
    this.#taken = 0;
    return flags;
  }
}
