/**
 * One end of a connection with the guest, as a `net.Socket` over the host's end of a socket pair. All of it is
 * `net.Socket`'s, but for one thing that a Unix socket cannot say: that the other side did not end but reset.
 */
import { Socket } from "node:net";

export class GuestSocket extends Socket {
  readonly #resetReason: () => string | undefined;

  /** `fd` is this socket's from now on. `resetReason` is asked at the end of the stream: a reason if that is a reset. */
  constructor(fd: number, allowHalfOpen: boolean, resetReason: () => string | undefined) {
    super({ fd, allowHalfOpen, readable: true, writable: true });
    this.#resetReason = resetReason;
  }

  override push(chunk: unknown, encoding?: BufferEncoding): boolean {
    const reason = chunk === null ? this.#resetReason() : undefined;
    if (reason === undefined) return super.push(chunk, encoding);
    this.destroy(
      Object.assign(new Error(`read ECONNRESET: ${reason}`), { code: "ECONNRESET", syscall: "read" }),
    );
    return false;
  }
}
