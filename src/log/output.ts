/**
 * Where finished lines go: a file descriptor, by default standard error. Losing a line is bad, ending a
 * daemon that carries other people's connections because a disk is full or a pager was closed is worse:
 * a write that fails is reported to the caller and never thrown.
 * Must not know what a line says (format.ts).
 */

import { writeSync } from "node:fs";

const STDERR_FD = 2;

const NEWLINE = 0x0a;

/** Takes a line without its newline. Returns false if it could not be written (whole); never throws. */
export type LineOutput = (line: string) => boolean;

/** The part of `fs.writeSync` that is used here, so that a test can make it fail. */
export type WriteBytes = (fd: number, bytes: Uint8Array, offset: number) => number;

/**
 * Lines to a file descriptor, synchronously: a record logged just before a crash is there afterwards.
 * On a non-blocking descriptor whose reader is stuck (EAGAIN) lines are lost, and nothing waits for it.
 */
export function fdOutput(fd: number = STDERR_FD, writeBytes: WriteBytes = writeSync): LineOutput {
  /** A write failed half-way: the next line starts on a line of its own all the same. */
  let endsInMidLine = false;

  return (line) => {
    const bytes = Buffer.from(`${endsInMidLine ? "\n" : ""}${line}\n`);
    let offset = 0;
    try {
      while (offset < bytes.length) offset += writeBytes(fd, bytes, offset);
    } catch {
      if (offset > 0) endsInMidLine = bytes[offset - 1] !== NEWLINE;
      return false;
    }
    endsInMidLine = false;
    return true;
  };
}
