/** Hands a connected socket to whoever started this program, in the way that OpenSSH's ProxyUseFdpass reads. */
import { errno, errnoName } from "../../linux/errors.js";
import { sendMessage } from "../../linux/message-socket.js";

/**
 * Sends `fd` over the Unix socket `over`: why not, if it fails. The descriptor needs one byte to travel with; ssh reads
 * exactly that (OpenSSH, monitor_fdpass.c, mm_receive_fd).
 */
export function handOver(fd: number, over: number): string | undefined {
  const sent = sendMessage(over, Uint8Array.of(0), [fd]);
  if (sent === 1) return undefined;
  if (sent === -errno.ENOTSOCK || sent === -errno.EINVAL)
    return "standard output is not a Unix socket, which --pass-fd needs; ssh gives one with ProxyUseFdpass=yes";
  return `handing the socket over failed with ${errnoName(-sent)}`;
}
