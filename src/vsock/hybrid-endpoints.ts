/**
 * What is behind the host's ports in Firecracker's scheme: a program that listens on `<uds-path>_<port>`, with a socket
 * of the type that the guest asks for.
 */
import { closeDescriptor } from "../linux/close.js";
import { errno } from "../linux/errors.js";
import { NumberedAddresses, SOCK_SEQPACKET, SOCK_STREAM, tryCreateSocket } from "../linux/unix-socket.js";
import { SocketType } from "./header.js";
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

  connect(hostPort: number, type: number = SocketType.STREAM): number {
    const fd = tryCreateSocket(type === SocketType.SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM);
    if (fd < 0) return fd;
    const result = fd >= this.descriptorCeiling ? -errno.EMFILE : this.#listeners.connect(fd, hostPort);
    if (result === 0) return fd;
    closeDescriptor(fd);
    return result;
  }
}
