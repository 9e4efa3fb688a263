/** What can be wrong with a file of captured packets, with the block and the byte that show it. */
import { OperatorError } from "../../config/errors.js";

export type CaptureErrorCode =
  | "capture-unreadable"
  | "capture-unwritable"
  /** No pcapng file: another format, or none. */
  | "capture-format"
  /** The file ends within a block. */
  | "capture-cut"
  /** A block that contradicts itself. */
  | "capture-damaged"
  /** A sound file with nothing for an inspection in it. */
  | "capture-foreign";

export class CaptureError extends OperatorError {
  override readonly name = "CaptureError";

  /** @param where the file, or its block and byte offset */
  constructor(
    readonly code: CaptureErrorCode,
    readonly where: string,
    message: string,
  ) {
    super(message);
  }
}

/** `session.pcapng, block 7 (Enhanced Packet) at byte 1312`: blocks count from 1. */
export function placeOf(path: string, block: number, type: string, offset: number): string {
  return `${path}, block ${block} (${type}) at byte ${offset}`;
}

/** What Node says of a file operation, in a few words. */
export function systemReason(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}
