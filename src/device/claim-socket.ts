/**
 * Takes a path for a listening socket: a stale socket file is replaced, a live one refused. Runs on the main thread
 * before the device starts, so that whoever typed the path hears of it.
 */
import { type BigIntStats, chownSync, closeSync, lstatSync, unlinkSync } from "node:fs";
import { StartError } from "../config/errors.js";
import { errno, errnoName, SystemCallError } from "../linux/errors.js";
import { connectUnix, createSocket, listenUnix, SOCK_STREAM } from "../linux/unix-socket.js";

export interface ClaimOptions {
  /** Of the socket: SOCK_STREAM (the default) or SOCK_SEQPACKET. */
  readonly type?: number;
  /** Permission bits of the socket file; undefined leaves them to the umask. */
  readonly mode?: number | undefined;
  /** Group of the socket file. */
  readonly gid?: number | undefined;
}

/** A listening socket with its file. */
export interface ClaimedSocket {
  readonly fd: number;
  readonly path: string;
  /** Which file it is: another one may have that name one day. */
  readonly identity: string;
}

/** How often a path is tried: others may take it, and leave it stale again, while a stale file is removed. */
const MOST_ATTEMPTS = 5;

/** Listens at `path`. Throws `StartError` if somebody else does, or if something that is no socket has that name. */
export function claimSocket(path: string, options: ClaimOptions = {}): ClaimedSocket {
  const { mode, type = SOCK_STREAM } = options;
  for (let attempt = 1; ; attempt++) {
    let fd: number;
    try {
      fd = listenUnix(path, mode === undefined ? { type } : { type, mode });
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      if (error.errno !== errno.EADDRINUSE || attempt === MOST_ATTEMPTS) {
        throw new StartError("bind-failed", path, `cannot listen there: ${error.message}`, { cause: error });
      }
      removeStale(path, type);
      continue;
    }
    const socket = { fd, path, identity: identityOf(path) ?? "" };
    if (options.gid !== undefined) giveToGroup(socket, options.gid);
    return socket;
  }
}

function giveToGroup(socket: ClaimedSocket, gid: number): void {
  try {
    chownSync(socket.path, -1 >>> 0, gid);
  } catch (cause) {
    releaseSocket(socket);
    const message = `cannot give the socket to group ${gid}; run as a member of that group, or leave --uds-group out`;
    throw new StartError("bind-failed", socket.path, message, { cause });
  }
}

/**
 * Removes the file of a socket that nobody listens on any more. (One that is caught between bind(2) and listen(2) looks
 * the same for microseconds: two programs that start on one path at the same instant are the operator's mistake.)
 */
function removeStale(path: string, type: number): void {
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    const message = "exists and is not a socket; remove it or choose another path";
    throw new StartError("path-not-a-socket", path, message);
  }
  if (refuses(path, type)) removeIfStill(path, identityFrom(found));
}

/** True if nobody listens, false if the file is gone; throws if somebody listens, or if that cannot be told. */
function refuses(path: string, type: number): boolean {
  const probe = createSocket(type);
  const result = connectUnix(probe, path);
  closeSync(probe);
  if (result === -errno.ECONNREFUSED) return true;
  if (result === -errno.ENOENT) return false;
  if (result === -errno.EACCES || result === -errno.EPERM) {
    const message = `whether another process listens there cannot be told (${errnoName(-result)}); remove it if not`;
    throw new StartError("path-in-use", path, message);
  }
  throw new StartError("path-in-use", path, "another process listens there; end it or choose another path");
}

/** Removes the file of a socket that this process made. The descriptor is closed by whoever serves it. */
export function removeSocketFile({ path, identity }: ClaimedSocket): void {
  try {
    removeIfStill(path, identity);
  } catch {
    // The directory is gone or no longer ours to write: nothing that could be done about it at the end.
  }
}

/** Gives a claimed socket up. */
export function releaseSocket(socket: ClaimedSocket): void {
  // In this order nobody finds a socket that refuses.
  removeSocketFile(socket);
  closeSync(socket.fd);
}

/** Removes the file at `path` if it is the one that `identity` says. (Linux cannot do both in one step.) */
function removeIfStill(path: string, identity: string): void {
  if (identityOf(path) !== identity) return;
  try {
    unlinkSync(path);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
  }
}

/**
 * Which file has a name, or undefined if none has. An inode number may be given again once its file is gone; the time
 * of the last write, which for a socket is that of its making, is not.
 */
function identityOf(path: string): string | undefined {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return stat && identityFrom(stat);
}

function identityFrom({ dev, ino, mtimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${mtimeNs}`;
}
