/**
 * errno values by name, and the error that a failed system call becomes.
 *
 * Calls on the hot path do not throw: they return `-errno`, as the kernel does. Calls that set something up throw
 * a `SystemCallError`, whose `code` is the usual name ("EADDRINUSE").
 */
import { constants as osConstants } from "node:os";
import { lastErrno } from "./libc.js";

/** Linux errno numbers by name, e.g. `errno.EAGAIN`. */
export const errno = osConstants.errno;

const nameByNumber = new Map<number, string>(
  Object.entries(osConstants.errno).map(([name, number]) => [number, name] as const),
);

/** The symbolic name of an errno value, or its number as text if Node does not know it. */
export function errnoName(value: number): string {
  return nameByNumber.get(value) ?? `errno ${value}`;
}

/** A system call that failed while something was being set up. */
export class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  /** Symbolic errno, e.g. "EADDRINUSE". */
  readonly code: string;

  constructor(
    readonly call: string,
    readonly errno: number,
    /** What the call was about: a path, a descriptor, a range. */
    readonly where: string,
  ) {
    super(`${call} failed with ${errnoName(errno)}${where === "" ? "" : ` (${where})`}`);
    this.code = errnoName(errno);
  }
}

/** Passes a result through, or throws what errno says if it is negative. */
export function checked(result: number, call: string, where = ""): number {
  if (result < 0) throw new SystemCallError(call, lastErrno(), where);
  return result;
}

/** Turns C's "-1 and errno" into the kernel's `-errno`. */
export function orErrno(result: number): number {
  return result < 0 ? -lastErrno() : result;
}
