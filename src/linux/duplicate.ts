/** A second descriptor for the same open file: for whoever keeps what was only lent. */
import { checked } from "./errors.js";
import { libcCalls } from "./libc.js";

const F_DUPFD_CLOEXEC = 1030;

/** A descriptor of the caller's own, closed on exec. Throws a SystemCallError: EBADF if `fd` is not open. */
export function duplicate(fd: number): number {
  return checked(libcCalls.fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl F_DUPFD_CLOEXEC", `fd ${fd}`);
}
