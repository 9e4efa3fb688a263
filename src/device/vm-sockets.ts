/**
 * The two sockets of one VM, claimed on the main thread before its device starts: whoever typed a path hears of what is
 * wrong with it.
 */
import { closeSync } from "node:fs";
import { StartError } from "../config/errors.js";
import { isListening, SOCK_SEQPACKET } from "../linux/unix-socket.js";
import {
  type ClaimedSocket,
  type ClaimOptions,
  claimSocket,
  releaseSocket,
  removeSocketFile,
} from "./claim-socket.js";
import { SEQPACKET_SUFFIX, type VmConfig } from "./config/vm-config.js";
import type { VmmSocket } from "./vm-device.js";

export interface VmSockets {
  readonly vmm: VmmSocket;
  readonly hybridFd: number;
  /** For host programs that want seqpacket sockets; undefined if those are not offered. */
  readonly seqpacketFd: number | undefined;
  /** Those of them that have files. */
  readonly claimed: readonly ClaimedSocket[];
}

/** Throws `StartError`, and leaves nothing behind, if one of them cannot be had. */
export function claimSockets(config: VmConfig, inheritedFd: number | undefined): VmSockets {
  const claimed: ClaimedSocket[] = [];
  const claim = (path: string, options?: ClaimOptions): number => {
    const socket = claimSocket(path, options);
    claimed.push(socket);
    return socket.fd;
  };
  const { socketPath, udsPath, udsMode: mode, udsGroup: gid } = config;
  try {
    const vmm =
      socketPath === undefined ? inherited(inheritedFd) : { fd: claim(socketPath), listening: true };
    const hybridFd = claim(udsPath, { mode, gid });
    const seqpacketFd = config.seqpacket
      ? claim(`${udsPath}${SEQPACKET_SUFFIX}`, { type: SOCK_SEQPACKET, mode, gid })
      : undefined;
    return { vmm, hybridFd, seqpacketFd, claimed };
  } catch (error) {
    claimed.forEach(releaseSocket);
    throw error;
  }
}

/** Gives back sockets that no device has taken over. */
export function releaseSockets({ claimed }: VmSockets): void {
  claimed.forEach(releaseSocket);
}

/** After the device's end: its files go, its descriptors are closed already. */
export function removeSocketFiles({ claimed }: VmSockets): void {
  claimed.forEach(removeSocketFile);
}

/** Closes what a device in another process has copies of. */
export function closeSockets({ vmm, hybridFd, seqpacketFd }: VmSockets): void {
  for (const fd of [vmm.fd, hybridFd, seqpacketFd]) if (fd !== undefined) closeSync(fd);
}

function inherited(fd: number | undefined): VmmSocket {
  if (fd === undefined) throw new TypeError("a VM without socketPath needs an inherited descriptor");
  try {
    return { fd, listening: isListening(fd) };
  } catch (cause) {
    throw new StartError("fd-unusable", `--fd ${fd}`, "it is not a socket that can carry vhost-user", {
      cause,
    });
  }
}
