/** The one error class of this folder: a control message about memory that cannot be obeyed, with a stable code. */

export type MemoryErrorCode =
  /** A region or range of 0 bytes. */
  | "empty"
  /** A sum passes 2^64, or an address of the memory table passes 2^53. */
  | "address-overflow"
  /** Two regions share guest-physical addresses. */
  | "overlap-gpa"
  /** Two regions share user addresses. */
  | "overlap-uva"
  /** The table has no free slot. */
  | "too-many-regions"
  /** No region has these three values. */
  | "unknown-region"
  /** The file ends before the region does: an access there would be a SIGBUS. */
  | "file-too-short"
  /** mmap or fstat refused; `cause` has the errno. */
  | "mapping-failed"
  /** An IOTLB entry that points outside of every region. */
  | "outside-memory"
  /** Permission flags other than 1 (read), 2 (write), 3 (both). */
  | "bad-permission"
  /** An IOTLB message that spans more regions than there are entries. */
  | "no-room";

/** A memory table or IOTLB message that was refused. `message` names the region or range. */
export class MemoryError extends Error {
  override readonly name = "MemoryError";

  constructor(
    readonly code: MemoryErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** "0x" and hexadecimal digits, for messages. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
