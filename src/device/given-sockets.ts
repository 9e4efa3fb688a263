/**
 * Listening sockets that the service manager has made for a VM, in place of those that would be made here: what each has to
 * be. Their files are the service manager's. Must not know how they came (`cli/serve/activation.ts`).
 */
import { realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { StartError } from "../config/errors.js";
import { quoted } from "../config/quoted.js";
import { type BoundAddress, boundAddress } from "../linux/bound-address.js";
import { SystemCallError } from "../linux/errors.js";
import {
  isListening,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  setNonBlocking,
  socketType,
} from "../linux/unix-socket.js";
import { describeSource } from "./config/forwards.js";

/** One of them, and how to call it in an error. */
export interface GivenSocket {
  readonly fd: number;
  readonly name: string;
}

export interface GivenSockets {
  /** For the VMM. */
  readonly vmm?: GivenSocket;
  /** For host programs, at `udsPath`. */
  readonly hybrid?: GivenSocket;
  readonly seqpacket?: GivenSocket;
  /** Each stands for a port of the guest. */
  readonly listens: readonly (GivenSocket & { readonly guestPort: number })[];
}

/** Takes a Unix socket that listens at `path`; throws `StartError` if it is something else. */
export function takeUnix(given: GivenSocket, path: string, type: number = SOCK_STREAM): number {
  const bound = inspect(given, type);
  if (bound.kind !== "unix" || identityOf(bound.path) !== identityOf(path)) {
    const found = bound.kind === "other" ? `a socket of family ${bound.family}` : describeSource(bound);
    refuse(given, `it is ${found}, and the configuration says ${quoted(path)}; make both the same`);
  }
  return given.fd;
}

/** Takes a stream socket, TCP or Unix: where it listens. */
export function takeStream(given: GivenSocket): string {
  const bound = inspect(given, SOCK_STREAM);
  if (bound.kind === "other")
    refuse(given, `it is neither TCP nor a Unix socket, but of family ${bound.family}`);
  return describeSource(bound);
}

function inspect(given: GivenSocket, type: number): BoundAddress {
  const { fd } = given;
  try {
    if (!isListening(fd)) refuse(given, "it does not listen; a unit with Accept=no passes one that does");
    if (socketType(fd) !== type) {
      const directive = type === SOCK_SEQPACKET ? "ListenSequentialPacket=" : "ListenStream=";
      refuse(given, `it is of another type; use ${directive}`);
    }
    setNonBlocking(fd);
    return boundAddress(fd);
  } catch (cause) {
    if (!(cause instanceof SystemCallError)) throw cause;
    throw new StartError("fd-unusable", placeOf(given), `it is no socket (${cause.message})`, { cause });
  }
}

function refuse(given: GivenSocket, problem: string): never {
  throw new StartError("fd-unusable", placeOf(given), problem);
}

function placeOf({ name, fd }: GivenSocket): string {
  return `${name} (descriptor ${fd})`;
}

function identityOf(path: string): string {
  return path === "" ? "" : join(realpathSync(dirname(resolve(path))), basename(path));
}
