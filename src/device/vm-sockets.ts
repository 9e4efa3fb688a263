/**
 * The sockets of one VM, claimed on the main thread before its device starts: whoever typed a path hears of what is
 * wrong with it.
 */
import { closeSync } from "node:fs";
import { StartError } from "../config/errors.js";
import { SystemCallError } from "../linux/errors.js";
import { listenTcp, tcpPort } from "../linux/tcp-socket.js";
import { isListening, SOCK_SEQPACKET } from "../linux/unix-socket.js";
import {
  type ClaimedSocket,
  type ClaimOptions,
  claimSocket,
  releaseSocket,
  removeSocketFile,
} from "./claim-socket.js";
import { describeSource, type Listen } from "./config/forwards.js";
import { SEQPACKET_SUFFIX, type VmConfig } from "./config/vm-config.js";
import { type GivenSocket, type GivenSockets, takeStream, takeUnix } from "./given-sockets.js";
import type { GuestPortSocket, VmmSocket } from "./vm-device.js";

export interface ListenSocket {
  readonly fd: number;
  readonly guestPort: number;
  /** Where it listens, with the port that it got. */
  readonly at: string;
}

/** What a device is served on, wherever it was claimed. */
export interface DeviceSockets {
  readonly vmm: VmmSocket;
  readonly hybridFd: number;
  /** For host programs that want seqpacket sockets; undefined if those are not offered. */
  readonly seqpacketFd: number | undefined;
  /** Sockets that stand for ports of the guest. */
  readonly listens: readonly GuestPortSocket[];
}

export interface VmSockets extends DeviceSockets {
  readonly listens: readonly ListenSocket[];
  /** Those of them whose files were made here. */
  readonly claimed: readonly ClaimedSocket[];
}

/** Throws `StartError`, and leaves nothing behind, if one of them cannot be had. */
export function claimSockets(
  config: VmConfig,
  inheritedFd: number | undefined,
  given: GivenSockets = { listens: [] },
): VmSockets {
  const claimed: ClaimedSocket[] = [];
  const claim = (path: string, options?: ClaimOptions): number => {
    const socket = claimSocket(path, options);
    claimed.push(socket);
    return socket.fd;
  };
  const { socketPath, udsPath, udsMode: mode, udsGroup: gid } = config;
  const listens: ListenSocket[] = [];
  try {
    const take = (from: GivenSocket | undefined, path: string, options?: ClaimOptions) =>
      from === undefined ? claim(path, options) : takeUnix(from, path, options?.type);
    const vmm =
      socketPath === undefined
        ? inherited(inheritedFd)
        : { fd: take(given.vmm, socketPath), listening: true };
    const hybridFd = take(given.hybrid, udsPath, { mode, gid });
    const seqpacketPath = `${udsPath}${SEQPACKET_SUFFIX}`;
    const seqpacketFd = config.seqpacket
      ? take(given.seqpacket, seqpacketPath, { type: SOCK_SEQPACKET, mode, gid })
      : undefined;
    for (const socket of given.listens) {
      const { fd, guestPort } = socket;
      listens.push({ fd, guestPort, at: takeStream(socket) });
    }
    for (const { source, guestPort } of config.listens) {
      if (source.kind === "unix") {
        const fd = claim(source.path, { mode, gid });
        listens.push({ fd, guestPort, at: describeSource(source) });
      } else listens.push({ ...claimTcp(source), guestPort });
    }
    return { vmm, hybridFd, seqpacketFd, listens, claimed };
  } catch (error) {
    releaseSockets({ claimed, listens });
    throw error;
  }
}

/** Gives back sockets that no device has taken over. */
export function releaseSockets({ claimed, listens }: Pick<VmSockets, "claimed" | "listens">): void {
  claimed.forEach(releaseSocket);
  for (const { fd } of listens) if (!claimed.some((socket) => socket.fd === fd)) closeSync(fd);
}

function claimTcp(source: Listen["source"] & { readonly kind: "tcp" }): Pick<ListenSocket, "fd" | "at"> {
  try {
    const fd = listenTcp(source);
    return { fd, at: describeSource({ ...source, port: tcpPort(fd) }) };
  } catch (cause) {
    if (!(cause instanceof SystemCallError)) throw cause;
    const problem = `cannot listen there: ${cause.message}`;
    throw new StartError("bind-failed", describeSource(source), problem, { cause });
  }
}

/** After the device's end: its files go, its descriptors are closed already. */
export function removeSocketFiles({ claimed }: VmSockets): void {
  claimed.forEach(removeSocketFile);
}

/** All descriptors, in the order in which a device in another process inherits them. */
export function descriptorsOf({ vmm, hybridFd, seqpacketFd, listens }: DeviceSockets): number[] {
  const seqpacket = seqpacketFd === undefined ? [] : [seqpacketFd];
  return [vmm.fd, hybridFd, ...seqpacket, ...listens.map(({ fd }) => fd)];
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
