/** What a front-end session throws: the back-end did not do what was asked, or not what the document says. */

export type FrontEndErrorCode =
  /** An acknowledgement other than 0. */
  | "refused"
  /** The connection is gone. */
  | "closed"
  /** No answer in time. */
  | "timeout"
  /** An answer to something else, or of another kind than the message has. */
  | "unexpected-reply"
  /** Bytes that are no message. */
  | "malformed";

export class FrontEndError extends Error {
  override readonly name = "FrontEndError";

  constructor(
    readonly code: FrontEndErrorCode,
    message: string,
  ) {
    super(message);
  }
}
