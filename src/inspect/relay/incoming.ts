/**
 * Reads one end of a relayed socket message by message, keeping with which byte descriptors came. What is no vhost-user
 * stream is passed on as it comes: a relay that understands nothing still changes nothing. Owns what it has not given
 * out yet.
 */
import { errno } from "../../linux/errors.js";
import { receiveMessage } from "../../linux/message-socket.js";
import { decodeHeader, FLAG, HEADER_BYTES } from "../../vhost/wire/index.js";
import { closeAll, type Piece } from "./outgoing.js";

/**
 * The largest message that is held until it is whole. Our choice: the largest that the document has is below 4 KiB,
 * and nobody's device-specific payload is near this.
 */
export const MOST_MESSAGE_BYTES = 1024 * 1024;

export type Arrival =
  /** A whole message, in the pieces in which it came: cut where descriptors were attached. */
  | { readonly kind: "message"; readonly bytes: Uint8Array; readonly pieces: readonly Piece[] }
  /** Bytes of a stream in which messages cannot be told apart. */
  | { readonly kind: "raw"; readonly piece: Piece }
  /** Message boundaries were lost with this header; what follows comes as `raw`, this header too. */
  | { readonly kind: "lost"; readonly problem: string }
  | { readonly kind: "nothing" }
  /** End of stream or an error; `cut` has the bytes of a message that is not whole. */
  | { readonly kind: "end"; readonly result: number; readonly cut: readonly Piece[] }
  | { readonly kind: "descriptors-lost" };

const NOTHING: Arrival = { kind: "nothing" };

export class Incoming {
  readonly #fd: number;
  #pieces: Piece[] = [];
  #length = 0;
  /** Header and payload; known once the header is here. */
  #due = HEADER_BYTES;
  #isRaw = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** One system call at most, and what follows from it. `undefined`: a part of a message came; call again. */
  read(): Arrival | undefined {
    if (this.#isRaw) {
      const kept = this.#pieces.shift();
      if (kept !== undefined) return { kind: "raw", piece: kept };
    }
    // Exactly to the end of header or payload: descriptors then belong to the message whose bytes they came with.
    const { result, bytes, descriptors, descriptorsLost } = this.#isRaw
      ? receiveMessage(this.#fd)
      : receiveMessage(this.#fd, this.#due - this.#length);
    if (descriptorsLost) return { kind: "descriptors-lost" };
    if (result === 0) return { kind: "end", result, cut: this.#take() };
    if (result < 0) return result === -errno.EAGAIN ? NOTHING : { kind: "end", result, cut: this.#take() };
    const piece: Piece = { bytes: bytes.slice(), fds: descriptors };
    if (this.#isRaw) return { kind: "raw", piece };
    this.#pieces.push(piece);
    this.#length += result;
    return this.#length === this.#due ? this.#complete() : undefined;
  }

  #complete(): Arrival | undefined {
    const bytes = joined(this.#pieces, this.#length);
    if (this.#length === HEADER_BYTES) {
      const header = decodeHeader(bytes);
      const problem = headerProblem(header.flags, header.size);
      if (problem !== undefined) {
        this.#isRaw = true;
        return { kind: "lost", problem };
      }
      this.#due = HEADER_BYTES + header.size;
      if (header.size > 0) return undefined;
    }
    this.#due = HEADER_BYTES;
    return { kind: "message", bytes, pieces: this.#take() };
  }

  #take(): Piece[] {
    this.#length = 0;
    return this.#pieces.splice(0);
  }

  close(): void {
    for (const { fds } of this.#take()) closeAll(fds);
  }
}

function headerProblem(flags: number, size: number): string | undefined {
  const version = flags & FLAG.versionMask;
  if (version !== FLAG.version) return `a header says version ${version} where 1 is due`;
  if (size > MOST_MESSAGE_BYTES) return `a header says ${size} bytes of payload; no message has so many`;
  return undefined;
}

function joined(pieces: readonly Piece[], length: number): Uint8Array {
  if (pieces.length === 1) return pieces[0].bytes;
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece.bytes, at);
    at += piece.bytes.length;
  }
  return bytes;
}
