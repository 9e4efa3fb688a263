/**
 * What is behind the host's ports in Firecracker's scheme: a program that listens on `<uds-path>_<port>`.
 */
import { closeSync } from "node:fs";
import { errno, SystemCallError } from "../linux/errors.js";
import { connectUnix, createSocket } from "../linux/unix-socket.js";
import type { HostEndpoints } from "./host-endpoints.js";

export class HybridEndpoints implements HostEndpoints {
  /** `udsPath` leaves room for `_4294967295` within a socket path; the configuration has checked it. */
  constructor(
    private readonly udsPath: string,
    /** Descriptors from this number on are left to others (`connectionCeiling`). */
    private readonly descriptorCeiling: number = Number.POSITIVE_INFINITY,
  ) {}

  connect(hostPort: number): number {
    let fd: number;
    try {
      fd = createSocket();
    } catch (error) {
      if (error instanceof SystemCallError) return -error.errno;
      throw error;
    }
    if (fd >= this.descriptorCeiling) {
      closeSync(fd);
      return -errno.EMFILE;
    }
    const result = connectUnix(fd, `${this.udsPath}_${hostPort}`);
    if (result === 0) return fd;
    closeSync(fd);
    return result;
  }
}
