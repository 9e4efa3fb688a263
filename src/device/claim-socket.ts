/**
 * Takes a path for a listening socket: a stale socket file is replaced, a live one refused. Runs on the main thread
 * before the device starts, so that whoever typed the path hears of it.
 *
 * Other programs may do the same with the same path at the same time, so a name is never taken away on trust:
 * - A socket that is bound and does not listen yet looks stale. Ours listens under a passing name first, and link(2)
 *   then gives it its own: it is live from the moment it appears, and link fails if somebody else was faster.
 * - unlink(2) cannot ask which file it removes. A file is moved aside first, and put back if it is not the one that was
 *   found stale, or the one that we made.
 */
import { randomInt } from "node:crypto";
import { type BigIntStats, chownSync, closeSync, linkSync, lstatSync, renameSync, unlinkSync } from "node:fs";
import { basename, dirname } from "node:path";
import { errno, errnoName, SystemCallError } from "../linux/errors.js";
import { LONGEST_SOCKET_PATH_BYTES } from "../linux/socket-path.js";
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
  /** Which file it is: another one may have that name one day. */
  readonly identity: string;
}

/** Listens at `path`. Throws `StartError` if somebody else does, or if something that is no socket has that name. */
export function claimSocket(path: string, options: ClaimOptions = {}): ClaimedSocket {
  const { fd, passing } = listenAside(path, options.mode);
  try {
    if (options.gid !== undefined) giveToGroup(passing, options.gid, path);
    const identity = identityFrom(lstatSync(passing, { bigint: true }));
    giveName(passing, path);
    return { fd, path, identity };
  } catch (error) {
    closeSync(fd);
    throw asStartError(error, path);
  } finally {
    ignoringAbsence(() => unlinkSync(passing));
  }
}

/** Short passing names of a path that leaves no room for better ones are few, and may all be taken for a moment. */
const MOST_PASSING_NAMES = 100;

/** A socket that listens under a passing name beside `path`. */
function listenAside(path: string, mode: number | undefined): { fd: number; passing: string } {
  for (let attempt = 1; ; attempt++) {
    const passing = passingName(path);
    try {
      return { fd: listenUnix(passing, mode === undefined ? {} : { mode }), passing };
    } catch (error) {
      const isTaken = error instanceof SystemCallError && error.errno === errno.EADDRINUSE;
      if (!isTaken || attempt === MOST_PASSING_NAMES) throw asStartError(error, path);
    }
  }
}

/**
 * A name to listen under in the directory of `path`: beside it, or, where a socket's address has no room for that, as
 * many characters as it has room for.
 */
function passingName(path: string): string {
  const long = besides(path);
  if (Buffer.byteLength(long) <= LONGEST_SOCKET_PATH_BYTES) return long;
  const folder = `${dirname(path)}/`;
  const roomBytes = LONGEST_SOCKET_PATH_BYTES - Buffer.byteLength(folder);
  return folder + randomCharacters().slice(0, Math.max(1, roomBytes));
}

/**
 * A name that nobody uses: `vm.sock.k3v0x2mq`. `ss` goes on showing the name that a socket was bound to, and with this
 * one it still tells whose it is. (Not by `path.join`, which would resolve `link/..` without looking at the link.)
 */
function besides(path: string): string {
  return `${dirname(path)}/${basename(path)}.${randomCharacters()}`;
}

function randomCharacters(): string {
  return Array.from({ length: 8 }, () => randomInt(36).toString(36)).join("");
}

function giveToGroup(file: string, gid: number, path: string): void {
  try {
    chownSync(file, -1 >>> 0, gid);
  } catch (cause) {
    const message = `cannot give the socket to group ${gid}; run as a member of that group, or leave --uds-group out`;
    throw new StartError("bind-failed", path, message, { cause });
  }
}

/** How many others may win the race for a stale path, and leave it stale again, before this gives up. */
const MOST_ATTEMPTS = 10;

/** Gives the socket its name, unless somebody listens there. */
function giveName(passing: string, path: string): void {
  for (let attempt = 1; ; attempt++) {
    try {
      linkSync(passing, path);
      return;
    } catch (error) {
      if (codeOf(error) !== "EEXIST" || attempt === MOST_ATTEMPTS) throw error;
      removeStale(path);
    }
  }
}

/** Removes the file of a socket that nobody listens on any more. */
function removeStale(path: string): void {
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    const message = "exists and is not a socket; remove it or choose another path";
    throw new StartError("path-not-a-socket", path, message);
  }
  const probe = createSocket();
  const result = connectUnix(probe, path);
  closeSync(probe);
  if (result === -errno.ENOENT) return;
  if (result === -errno.EACCES || result === -errno.EPERM) {
    const message = `whether another process listens there cannot be told (${errnoName(-result)}); remove it if not`;
    throw new StartError("path-in-use", path, message);
  }
  if (result !== -errno.ECONNREFUSED) {
    const message = "another process listens there; end it or choose another path";
    throw new StartError("path-in-use", path, message);
  }
  removeIfStill(path, identityFrom(found));
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

/** Removes the file at `path` if it is the one that `identity` says, and leaves any other there. */
function removeIfStill(path: string, identity: string): void {
  if (identityOf(path) !== identity) return;
  const aside = besides(path);
  ignoringAbsence(() => renameSync(path, aside));
  // Another file took the name in between. It goes back, unless a third one has the name by now.
  if (identityOf(aside) !== identity) {
    try {
      linkSync(aside, path);
    } catch (error) {
      if (codeOf(error) !== "EEXIST" && codeOf(error) !== "ENOENT") throw error;
    }
  }
  ignoringAbsence(() => unlinkSync(aside));
}

/**
 * Which file has a name, or undefined if none has. An inode number may be given again once its file is gone; the time
 * of the last write, which for a socket is that of its making, is not. Renaming, linking and chown keep both.
 */
function identityOf(path: string): string | undefined {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return stat && identityFrom(stat);
}

function identityFrom({ dev, ino, mtimeNs }: BigIntStats): string {
  return `${dev}:${ino}:${mtimeNs}`;
}

function ignoringAbsence(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (codeOf(error) !== "ENOENT") throw error;
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

/** Whatever the system refused is the operator's to put right. */
function asStartError(error: unknown, path: string): unknown {
  if (!(error instanceof Error && "errno" in error)) return error;
  const message = `cannot listen there: ${error.message}`;
  return new StartError("bind-failed", path, message, { cause: error });
}
