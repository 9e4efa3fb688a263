/** The sockets of a library device, claimed before it starts. Unlike the command line's, it may have none for host programs. */
import { StartError } from "../../config/errors.js";
import { isListening, SOCK_SEQPACKET } from "../../linux/unix-socket.js";
import { type ClaimedSocket, claimSocket, releaseSocket } from "../claim-socket.js";
import { SEQPACKET_SUFFIX, type VmConfig } from "../config/vm-config.js";
import type { VmmSocket } from "../vm-device.js";

export interface LibrarySockets {
  readonly vmm: VmmSocket;
  readonly hybridFd: number | undefined;
  readonly seqpacketFd: number | undefined;
  /** Those of them that have files. */
  readonly claimed: readonly ClaimedSocket[];
}

/** Throws `StartError`, and leaves nothing behind, if one of them cannot be had. */
export function claimLibrarySockets(
  { socketPath, udsPath, seqpacket, udsMode: mode, udsGroup: gid }: VmConfig,
  fd: number | undefined,
): LibrarySockets {
  const claimed: ClaimedSocket[] = [];
  const claim = (socket: ClaimedSocket): number => {
    claimed.push(socket);
    return socket.fd;
  };
  try {
    const vmm =
      socketPath === undefined ? given(fd) : { fd: claim(claimSocket(socketPath)), listening: true };
    const hybridFd = udsPath === "" ? undefined : claim(claimSocket(udsPath, { mode, gid }));
    const seqpacketFd = seqpacket
      ? claim(claimSocket(`${udsPath}${SEQPACKET_SUFFIX}`, { type: SOCK_SEQPACKET, mode, gid }))
      : undefined;
    return { vmm, hybridFd, seqpacketFd, claimed };
  } catch (error) {
    claimed.forEach(releaseSocket);
    throw error;
  }
}

function given(fd: number | undefined): VmmSocket {
  const place = "fd";
  if (fd === undefined) throw new TypeError("neither socketPath nor fd is given");
  try {
    return { fd, listening: isListening(fd) };
  } catch (cause) {
    throw new StartError("fd-unusable", place, "it is not a socket that can carry vhost-user", { cause });
  }
}
