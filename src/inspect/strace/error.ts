/** What can be wrong with a trace as a whole; of single lines the notes tell. */
import { OperatorError } from "../../config/errors.js";

export type TraceErrorCode =
  | "trace-unreadable"
  /** Nothing in it is strace's, or no call in it is vhost's. */
  | "trace-foreign";

export class TraceError extends OperatorError {
  override readonly name = "TraceError";

  /** @param where the file */
  constructor(
    readonly code: TraceErrorCode,
    readonly where: string,
    message: string,
  ) {
    super(message);
  }
}
