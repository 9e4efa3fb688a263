/** Descriptors for files that are open already: for whoever keeps what was only lent, or gives a standard stream up. */
import { closeSync, openSync } from "node:fs";
import { checked } from "./errors.js";
import { libcCalls } from "./libc.js";

const F_DUPFD_CLOEXEC = 1030;

/** A descriptor of the caller's own, closed on exec. Throws a SystemCallError: EBADF if `fd` is not open. */
export function duplicate(fd: number): number {
  return checked(libcCalls.fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl F_DUPFD_CLOEXEC", `fd ${fd}`);
}

/** Closes the file behind `fd`, and has the number stand for /dev/null: code that knows the number goes on working. */
export function giveUp(fd: number): void {
  const nothing = openSync("/dev/null", "r+");
  checked(libcCalls.dup2(nothing, fd), "dup2", `fd ${fd}`);
  closeSync(nothing);
}
