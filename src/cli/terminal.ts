/**
 * What a command may say to the one who started it, and the exit statuses that it may end with.
 * Must not know any command. Writing never throws: `bit33 --help | head -1` is not a failure.
 */

import { writeSync } from "node:fs";
import { OperatorError } from "../config/errors.js";
import { EPOLLOUT, Epoll } from "../linux/epoll.js";
import { oneLine } from "../log/one-line.js";
import { fdOutput, type LineOutput, type WriteBytes } from "../log/output.js";

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

/**
 * Waits for a slow reader. A pipe is non-blocking as soon as node has opened it as `process.stdout`, which the first
 * worker thread makes it do; what does not fit then is answered with EAGAIN, and is not to be lost.
 */
export const patientWrite: WriteBytes = (fd, bytes, offset) => {
  for (;;) {
    try {
      return writeSync(fd, bytes, offset);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "";
      if (code !== "EAGAIN") {
        // Who closes a pipe wants no more of it: that is no loss.
        if (code !== "EPIPE") lost ??= code;
        throw error;
      }
      waitForRoom(fd);
    }
  }
};

let lost: string | undefined;

/** The error by which a part of the answer is missing; undefined if none is. */
export const lostOutput = (): string | undefined => lost;

function waitForRoom(fd: number): void {
  const epoll = new Epoll();
  epoll.add(fd, EPOLLOUT, 0);
  epoll.wait(-1);
  epoll.close();
}

/** Answers are waited for, complaints are not: a daemon does not stand still because nobody reads its last words. */
export const processTerminal: Terminal = { print: fdOutput(1, patientWrite), complain: fdOutput(2) };

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
