/**
 * What can be wrong with bytes from the other end of a vhost-user socket.
 *
 * A WireError is an outcome that decoders return, not something they throw: the peer is wrong, not we. The
 * session decides what to answer; `fatal` says that the stream itself can no longer be followed.
 */

/**
 * - `bad-version`: the version bits are not 1 (fatal).
 * - `payload-too-large`: the size field is beyond every legal message (fatal).
 * - `truncated`: the stream ended within a message (fatal).
 * - `unknown-request`: no message has this number.
 * - `payload-size`: the payload has not the size of its kind.
 * - `payload-value`: a field has a value that the document rules out.
 * - `too-many-regions`: a memory table holds more than MAX_TABLE_REGIONS.
 * - `config-size`: the config message's own size does not match its data, or is beyond the limit.
 * - `fd-count`: more or fewer descriptors than the message carries.
 */
export type WireErrorCode =
  | "bad-version"
  | "payload-too-large"
  | "truncated"
  | "unknown-request"
  | "payload-size"
  | "payload-value"
  | "too-many-regions"
  | "config-size"
  | "fd-count";

const FATAL: readonly WireErrorCode[] = ["bad-version", "payload-too-large", "truncated"];

/** A malformed message, with where it went wrong. */
export class WireError extends Error {
  override readonly name = "WireError";

  constructor(
    /** Stable identifier of the kind of fault. */
    readonly code: WireErrorCode,
    message: string,
    /** The request number of the header, if one was read. */
    readonly request: number,
    /** Bytes from the first byte of the header to what is wrong. */
    readonly offset: number,
  ) {
    super(message);
  }

  /** Whether message boundaries are lost: no reply is possible, the connection has to be closed. */
  get fatal(): boolean {
    return FATAL.includes(this.code);
  }
}

/** A decoded value or the fault that prevented it. */
export type Outcome<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: WireError };
