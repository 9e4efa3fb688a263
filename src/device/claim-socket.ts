/**
 * Takes a path for a listening socket: a stale socket file is replaced, a live one refused. Runs on the main thread
 * before the device starts, so that whoever typed the path hears of it.
 */
import { chownSync, closeSync, lstatSync, unlinkSync } from "node:fs";
import { errno, errnoName, SystemCallError } from "../linux/errors.js";
import { connectUnix, createSocket, listenUnix } from "../linux/unix-socket.js";
import { StartError } from "./config/errors.js";

export interface ClaimOptions {
  /** Permission bits of the socket file; undefined leaves them to the umask. */
  readonly mode?: number | undefined;
  /** Group of the socket file. */
  readonly gid?: number | undefined;
}

/** A listening socket with its file. */
export interface ClaimedSocket {
  readonly fd: number;
  readonly path: string;
}

/** Listens at `path`. Throws `StartError` if somebody else does, or if something that is no socket has that name. */
export function claimSocket(path: string, options: ClaimOptions = {}): ClaimedSocket {
  // Twice at most: once more after a stale file was removed.
  for (let attempt = 0; ; attempt++) {
    try {
      const fd = listenUnix(path, options.mode === undefined ? {} : { mode: options.mode });
      if (options.gid !== undefined) giveToGroup({ fd, path }, options.gid);
      return { fd, path };
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      if (error.errno !== errno.EADDRINUSE || attempt > 0) {
        throw new StartError("bind-failed", path, `cannot listen there: ${error.message}`, { cause: error });
      }
      removeStale(path);
    }
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

/** Removes the file of a socket that nobody listens on any more. */
function removeStale(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new StartError(
      "path-not-a-socket",
      path,
      "exists and is not a socket; remove it or choose another path",
    );
  }
  const probe = createSocket();
  const result = connectUnix(probe, path);
  closeSync(probe);
  if (result === -errno.EACCES || result === -errno.EPERM) {
    const message = `whether another process listens there cannot be told (${errnoName(-result)}); remove it if not`;
    throw new StartError("path-in-use", path, message);
  }
  if (result !== -errno.ECONNREFUSED) {
    const message = "another process listens there; end it or choose another path";
    throw new StartError("path-in-use", path, message);
  }
  unlinkSync(path);
}

/** Removes the file of a socket that this process made. The descriptor is closed by whoever serves it. */
export function removeSocketFile({ path }: ClaimedSocket): void {
  try {
    unlinkSync(path);
  } catch {
    // Somebody else removed it first, or the directory is gone: either way the name is free.
  }
}

/** Gives a claimed socket up. */
export function releaseSocket(socket: ClaimedSocket): void {
  closeSync(socket.fd);
  removeSocketFile(socket);
}
