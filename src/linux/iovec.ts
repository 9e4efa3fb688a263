/**
 * An array of `struct iovec` in mapped memory, filled with host addresses and passed to readv, writev and recvmsg.
 * Hot path: nothing here allocates after construction.
 *
 *     struct iovec { void *iov_base; size_t iov_len; };   16 bytes
 *     struct msghdr { void *name; socklen_t namelen; struct iovec *iov; size_t iovlen;
 *                     void *control; size_t controllen; int flags; };                      56 bytes
 */
import { orErrno } from "./errors.js";
import { libcCalls } from "./libc.js";
import { Scratch } from "./scratch.js";

/** The kernel's limit for one call (UIO_MAXIOV, include/uapi/linux/uio.h). */
export const MOST_IOVECS = 1024;
const IOVEC_BYTES = 16;
const WORD_BYTES = 4;
const IOVEC_WORDS = IOVEC_BYTES / WORD_BYTES;
const MSGHDR_BYTES = 56;
/** Of a `struct msghdr`, in words. */
const MSGHDR = { iov: 4, iovlen: 6, flags: 12 } as const;
const MSG_CTRUNC = 0x8;
const TWO_TO_32 = 2 ** 32;

/** Takes an address from one function to the next: V8 boxes it as an argument of any call that it does not inline. */
const place = new Float64Array(1);

export class IovecList {
  /** How many entries are filled. */
  count = 0;
  /** Sum of the lengths of all entries. */
  totalBytes = 0;
  readonly #memory: Scratch;
  readonly #words: Uint32Array;
  /** Behind the entries, in words: a `struct msghdr` without a name and without room for control messages. */
  readonly #msghdr: number;
  /** A field of the class: out of an object literal V8 would box it for each call. */
  readonly #msghdrAddress: number;

  constructor(readonly capacity: number = MOST_IOVECS) {
    this.#memory = new Scratch(capacity * IOVEC_BYTES + MSGHDR_BYTES);
    this.#words = this.#memory.u32;
    const { address } = this.#memory;
    this.#msghdr = capacity * IOVEC_WORDS;
    this.#msghdrAddress = address + this.#msghdr * WORD_BYTES;
    this.#words[this.#msghdr + MSGHDR.iov] = address >>> 0;
    this.#words[this.#msghdr + MSGHDR.iov + 1] = address / TWO_TO_32;
  }

  /** Gives the memory back; the list is not used any more. */
  release(): void {
    this.#memory.release();
  }

  get isFull(): boolean {
    return this.count === this.capacity;
  }

  clear(): void {
    this.count = 0;
    this.totalBytes = 0;
  }

  /** Appends `length` bytes at `address`. The caller has checked `isFull`. So short that V8 always inlines it. */
  push(address: number, length: number): void {
    place[0] = address;
    this.pushPlaced(length);
  }

  private pushPlaced(length: number): void {
    const address = place[0];
    const word = this.count * IOVEC_WORDS;
    const words = this.#words;
    words[word] = address >>> 0;
    words[word + 1] = address / TWO_TO_32;
    words[word + 2] = length;
    words[word + 3] = 0;
    this.count++;
    this.totalBytes += length;
  }

  address(index: number): number {
    const word = index * IOVEC_WORDS;
    return this.#words[word + 1] * TWO_TO_32 + this.#words[word];
  }

  /** Length in bytes of entry `index`; each is below 2^32. */
  length(index: number): number {
    return this.#words[index * IOVEC_WORDS + 2];
  }

  /** Writes all entries to `fd`: the number of bytes taken, or `-errno`. */
  writeTo(fd: number): number {
    return orErrno(libcCalls.writev(fd, this.#memory.address, this.count));
  }

  /** Fills the entries from `fd`: the number of bytes read, 0 at end of file, or `-errno`. */
  readFrom(fd: number): number {
    return orErrno(libcCalls.readv(fd, this.#memory.address, this.count));
  }

  /** As `readFrom`, of a socket; descriptors that came along are closed by the kernel, and `endedAtDescriptors` says so. */
  receiveFrom(fd: number): number {
    this.#words[this.#msghdr + MSGHDR.iovlen] = this.count;
    return orErrno(libcCalls.recvmsg(fd, this.#msghdrAddress, 0));
  }

  /**
   * The latest `receiveFrom` took descriptors (unix(7), SCM_RIGHTS): Linux ends a read of a stream there, however much
   * waits behind them.
   */
  get endedAtDescriptors(): boolean {
    return (this.#words[this.#msghdr + MSGHDR.flags] & MSG_CTRUNC) !== 0;
  }
}
