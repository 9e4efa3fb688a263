/**
 * What is behind the host's ports in Firecracker's scheme: a program that listens on `<uds-path>_<port>`.
 */
import { closeDescriptor } from "../linux/close.js";
import { errno } from "../linux/errors.js";
import { NumberedAddresses, tryCreateSocket } from "../linux/unix-socket.js";
import type { HostEndpoints } from "./host-endpoints.js";

export class HybridEndpoints implements HostEndpoints {
  readonly #listeners: NumberedAddresses;

  /** `udsPath` leaves room for `_4294967295` within a socket path; the configuration has checked it. */
  constructor(
    udsPath: string,
    /** Descriptors from this number on are left to others (`connectionCeiling`). */
    private readonly descriptorCeiling: number = Number.POSITIVE_INFINITY,
  ) {
    this.#listeners = new NumberedAddresses(`${udsPath}_`);
  }

  connect(hostPort: number): number {
    const fd = tryCreateSocket();
    if (fd < 0) return fd;
    const result = fd >= this.descriptorCeiling ? -errno.EMFILE : this.#listeners.connect(fd, hostPort);
    if (result === 0) return fd;
    closeDescriptor(fd);
    return result;
  }
}
