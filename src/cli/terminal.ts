/**
 * What a command may say to the one who started it, and the exit statuses that it may end with.
 * Must not know any command. Writing never throws: `bit33 --help | head -1` is not a failure.
 */

import { OperatorError } from "../config/errors.js";
import { oneLine } from "../log/one-line.js";
import { fdOutput, type LineOutput } from "../log/output.js";

export const EXIT_OK = 0;
/** Something failed that was not the caller's mistake. */
export const EXIT_FAILURE = 1;
/** The command line or the configuration has to be changed. */
export const EXIT_USAGE = 2;

export interface Terminal {
  /** A line of what was asked for, to standard output; it may hold newlines. */
  readonly print: LineOutput;
  /** A line about what is wrong, to standard error. */
  readonly complain: LineOutput;
}

export const processTerminal: Terminal = { print: fdOutput(1), complain: fdOutput(2) };

/** Says what went wrong, in one line if somebody can put it right, and returns the status to exit with. */
export function reportFailure(error: unknown, terminal: Terminal): number {
  if (error instanceof OperatorError) {
    terminal.complain(`bit33: ${oneLine(error.line)}`);
    return EXIT_USAGE;
  }
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
  terminal.complain(`bit33: internal error, please report it: ${detail}`);
  return EXIT_FAILURE;
}
