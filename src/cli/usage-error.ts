/**
 * The command line itself is wrong: an option that does not exist, a value that is missing, two that exclude
 * each other. What the options' values say is judged elsewhere (src/device/config/).
 */

import { OperatorError } from "../config/errors.js";

export type UsageErrorCode =
  | "command-unknown"
  | "option-unknown"
  | "option-needs-value"
  | "option-takes-no-value"
  | "option-twice"
  | "option-conflict"
  | "argument-unexpected"
  | "argument-missing"
  | "word-malformed"
  | "feature-unknown"
  | "nothing-to-compare"
  | "nothing-to-decode"
  | "nothing-to-judge"
  | "nothing-to-mail"
  | "nothing-to-serve";

export class UsageError extends OperatorError {
  override readonly name = "UsageError";

  constructor(
    override readonly code: UsageErrorCode,
    message: string,
    override readonly where = "",
  ) {
    super(message);
  }
}
