/**
 * What waits to be sent to one end of a relayed socket: bytes in their order, descriptors with the very byte that they
 * came with. Owns the descriptors until the kernel has them. Must not know messages.
 */
import { closeSync } from "node:fs";
import { errno } from "../../linux/errors.js";
import { RECEIVE_BYTES, sendMessage } from "../../linux/message-socket.js";

/** Bytes that came in one piece, with the descriptors of their first byte. */
export interface Piece {
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
}

export class Outgoing {
  #waiting: Piece[] = [];

  constructor(readonly fd: number) {}

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Keeps the bytes: the caller does not change them any more. Takes ownership of the descriptors. */
  add(piece: Piece): void {
    if (piece.bytes.length > 0) this.#waiting.push(piece);
    else closeAll(piece.fds);
  }

  /** Sends as much as the socket takes: 0, or `-errno` if it takes nothing any more. */
  flush(): number {
    for (let piece = this.#waiting[0]; piece !== undefined; piece = this.#waiting[0]) {
      const sent = sendMessage(this.fd, piece.bytes.subarray(0, RECEIVE_BYTES), piece.fds);
      if (sent === -errno.EAGAIN) return 0;
      if (sent < 0) return sent;
      // The receiver has its own descriptors from the first byte on.
      if (sent > 0) closeAll(piece.fds);
      if (sent === piece.bytes.length) this.#waiting.shift();
      else this.#waiting[0] = { bytes: piece.bytes.subarray(sent), fds: sent > 0 ? [] : piece.fds };
    }
    return 0;
  }

  /** Nobody will take it any more. */
  drop(): void {
    for (const { fds } of this.#waiting.splice(0)) closeAll(fds);
  }
}

export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) closeSync(fd);
}
