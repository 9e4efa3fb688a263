/**
 * Cuts a vhost-user byte stream into frames and gives each its descriptors.
 *
 * Used by the back-end, the front-end and the interposer alike. It knows the header and no message. It copies
 * only what a chunk boundary splits: a frame that lies within one chunk is a view of that chunk.
 *
 *     decoder.push(bytes, fds);
 *     for (let next = decoder.next(); next !== undefined; next = decoder.next()) …
 *
 * "When sending file descriptors in ancillary data, front-end should associate the ancillary data with a
 * sendmsg operation that sends bytes starting with the first byte of the message header" (vhost-user,
 * Communication). Linux ends a recvmsg after the piece that carried descriptors, so they belong to the frame
 * that the chunk's last byte belongs to, unless a peer packs several messages into one sendmsg behind them.
 * A reader that asks for `bytesWanted` bytes at a time never sees two frames in one chunk and is always right.
 */
import { type Outcome, WireError } from "./error.js";
import { decodeHeader, FLAG, type Header } from "./header.js";
import { HEADER_BYTES, MAX_PAYLOAD_BYTES } from "./limits.js";

/** One message, cut out but not interpreted. */
export interface Frame {
  readonly header: Header;
  /** Valid until the buffer that was pushed is reused. */
  readonly payload: Uint8Array;
  /** Descriptors that came with it. Whoever takes the frame owns them. */
  readonly fds: readonly number[];
}

const EMPTY = new Uint8Array(0);

/** An incremental decoder of one direction of one socket. */
export class FrameDecoder {
  readonly #maxPayloadBytes: number;
  #chunk: Uint8Array = EMPTY;
  #at = 0;
  /** Descriptors of the current chunk, until it is known which frame they belong to. */
  #chunkFds: number[] = [];
  /** Descriptors of the frame in progress. */
  #frameFds: number[] = [];
  readonly #headBytes = new Uint8Array(HEADER_BYTES);
  #headLength = 0;
  #header: Header | undefined;
  #body: Uint8Array = EMPTY;
  #bodyLength = 0;
  #failed = false;

  constructor(options: { readonly maxPayloadBytes?: number } = {}) {
    this.#maxPayloadBytes = options.maxPayloadBytes ?? MAX_PAYLOAD_BYTES;
  }

  /** Bytes to read next so that the chunk ends where the header or the payload does. Never 0. */
  get bytesWanted(): number {
    if (this.#header === undefined) return HEADER_BYTES - this.#headLength;
    return this.#header.size - this.#bodyLength;
  }

  /** Whether the stream has ended in a fatal error; `next` gives nothing any more. */
  get failed(): boolean {
    return this.#failed;
  }

  /** Takes what one recvmsg returned. The chunk before it must have been drained with `next`. */
  push(chunk: Uint8Array, fds: readonly number[] = []): void {
    if (this.#at < this.#chunk.byteLength && !this.#failed) {
      throw new Error("FrameDecoder.push before the previous chunk was drained with next()");
    }
    this.#chunk = chunk;
    this.#at = 0;
    this.#chunkFds.push(...fds);
  }

  /** The next frame, a fatal error (once), or undefined when more bytes are needed. */
  next(): Outcome<Frame> | undefined {
    if (this.#failed) return undefined;
    if (this.#header === undefined) this.#header = this.#takeHeader();
    if (this.#header === undefined) {
      this.#claimFds();
      return undefined;
    }
    const error = this.#headerError(this.#header);
    if (error !== undefined) {
      this.#failed = true;
      return { ok: false, error };
    }
    const payload = this.#takePayload(this.#header.size);
    if (this.#at === this.#chunk.byteLength) this.#claimFds();
    if (payload === undefined) return undefined;
    const frame: Frame = { header: this.#header, payload, fds: this.#frameFds };
    this.#header = undefined;
    this.#frameFds = [];
    return { ok: true, value: frame };
  }

  /** To be called at end of file: the error if the stream stopped within a message. */
  end(): WireError | undefined {
    const begun = this.#headLength > 0 || this.#header !== undefined;
    if (!begun || this.#failed) return undefined;
    this.#failed = true;
    const received = this.#header === undefined ? this.#headLength : HEADER_BYTES + this.#bodyLength;
    const request = this.#header?.request ?? 0;
    return new WireError("truncated", `the stream ended ${received} bytes into a message`, request, received);
  }

  /** Gives up every descriptor that no frame took, for the caller to close. */
  releaseFds(): number[] {
    const fds = [...this.#frameFds, ...this.#chunkFds];
    this.#frameFds = [];
    this.#chunkFds = [];
    return fds;
  }

  #claimFds(): void {
    if (this.#chunkFds.length === 0) return;
    this.#frameFds.push(...this.#chunkFds);
    this.#chunkFds = [];
  }

  #takeHeader(): Header | undefined {
    const available = this.#chunk.byteLength - this.#at;
    if (this.#headLength === 0 && available >= HEADER_BYTES) {
      const header = decodeHeader(this.#chunk, this.#at);
      this.#at += HEADER_BYTES;
      return header;
    }
    const taken = Math.min(available, HEADER_BYTES - this.#headLength);
    this.#headBytes.set(this.#chunk.subarray(this.#at, this.#at + taken), this.#headLength);
    this.#headLength += taken;
    this.#at += taken;
    if (this.#headLength < HEADER_BYTES) return undefined;
    this.#headLength = 0;
    return decodeHeader(this.#headBytes);
  }

  #headerError(header: Header): WireError | undefined {
    const { request, flags, size } = header;
    const version = flags & FLAG.versionMask;
    if (version !== FLAG.version) {
      return new WireError("bad-version", `message version ${version} where 1 is due`, request, 4);
    }
    if (size > this.#maxPayloadBytes) {
      const text = `payload of ${size} bytes; at most ${this.#maxPayloadBytes} are taken`;
      return new WireError("payload-too-large", text, request, 8);
    }
    return undefined;
  }

  #takePayload(size: number): Uint8Array | undefined {
    const available = this.#chunk.byteLength - this.#at;
    if (this.#bodyLength === 0 && available >= size) {
      const payload = this.#chunk.subarray(this.#at, this.#at + size);
      this.#at += size;
      return payload;
    }
    if (this.#bodyLength === 0) this.#body = new Uint8Array(size);
    const taken = Math.min(available, size - this.#bodyLength);
    this.#body.set(this.#chunk.subarray(this.#at, this.#at + taken), this.#bodyLength);
    this.#bodyLength += taken;
    this.#at += taken;
    if (this.#bodyLength < size) return undefined;
    this.#bodyLength = 0;
    return this.#body;
  }
}
