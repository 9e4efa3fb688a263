/**
 * Descriptors that a front-end passes: each has one owner and is closed exactly once. Knows what a doorbell has to be
 * for an event loop to be safe with it; knows no messages.
 */

import { closeSync, fstatSync, readlinkSync } from "node:fs";
import { setNonBlocking } from "../linux/unix-socket.js";

/** `st_mode` (stat(2)): the bits of the file's type, and the type of a pipe. Eventfds have none. */
const FILE_TYPE_MASK = 0o170000;
const FIFO = 0o010000;

/** The descriptors of one message, until somebody takes them; `closeRest` closes those that nobody took. */
export class ReceivedFds {
  readonly #fds: number[];

  constructor(fds: readonly number[]) {
    this.#fds = [...fds];
  }

  /** Hands the next descriptor to the caller, who closes it from now on; undefined if there is none left. */
  take(): number | undefined {
    return this.#fds.shift();
  }

  /** Hands over the next descriptor as a non-blocking eventfd, or says why it cannot (and keeps it). */
  takeEventfd(): number | string {
    return this.#takeIf(isEventfd, "the descriptor that came with it is no eventfd");
  }

  /**
   * The same for a descriptor that is only ever written, the 8 bytes of an eventfd: it may be a pipe as well. User-mode
   * Linux passes one as call descriptor ("since SIGIO is not supported for eventfd", arch/um/drivers/virtio_uml.c),
   * and libvhost-user and rust-vmm write to whatever they were given.
   */
  takeBell(): number | string {
    return this.#takeIf(
      (fd) => isEventfd(fd) || fileType(fd) === FIFO,
      "the descriptor that came with it is neither an eventfd nor a pipe",
    );
  }

  #takeIf(isRight: (fd: number) => boolean, problem: string): number | string {
    const fd = this.#fds[0];
    if (fd === undefined) return "no descriptor came with it";
    if (!isRight(fd)) return problem;
    // A blocking one would stop the whole loop at the first read that finds it empty, or write that finds it full.
    setNonBlocking(fd);
    this.#fds.shift();
    return fd;
  }

  /** Hands over all that are left. */
  takeAll(): number[] {
    return this.#fds.splice(0);
  }

  closeRest(): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
  }
}

/** A place for one owned descriptor; -1 when empty. */
export class FdSlot {
  #fd = -1;

  get fd(): number {
    return this.#fd;
  }

  /** Takes ownership of `fd` and closes the one that was here. */
  put(fd: number): void {
    const before = this.#fd;
    this.#fd = fd;
    if (before >= 0) closeSync(before);
  }

  close(): void {
    this.put(-1);
  }
}

function fileType(fd: number): number {
  return fstatSync(fd).mode & FILE_TYPE_MASK;
}

/**
 * Whether a kick can come through it. All front-ends pass an eventfd (User-mode Linux too), and all
 * back-ends read its 8 bytes. Anything else that can be waited for would wake the loop without end (a timer or an epoll
 * set that nobody resets, a pipe whose other end is closed). Eventfds are anonymous inodes, the only kind of file whose
 * mode has no type; which kind is in the name that /proc gives them (Linux fs/eventfd.c).
 */
function isEventfd(fd: number): boolean {
  if (fileType(fd) !== 0) return false;
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith("anon_inode:[eventfd");
  } catch {
    // Without /proc (a bare sandbox) the type has to do.
    return true;
  }
}
