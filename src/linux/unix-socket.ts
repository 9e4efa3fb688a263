/**
 * Unix domain sockets by descriptor: listeners, non-blocking connects, pairs, shutdown, socket options.
 * Every descriptor made here is non-blocking and close-on-exec.
 */
import { closeSync } from "node:fs";
import { checked, orErrno } from "./errors.js";
import { libcCalls } from "./libc.js";
import { setupScratch } from "./scratch.js";
import { LONGEST_SOCKET_PATH_BYTES } from "./socket-path.js";

const AF_UNIX = 1;
const PATH_OFFSET = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_SNDBUF = 7;
const SO_DOMAIN = 39;
const SO_ACCEPTCONN = 30;
const F_SETFL = 4;
const F_GETFL = 3;
const O_NONBLOCK = 0o4000;

export const SOCK_STREAM = 1;
export const SOCK_SEQPACKET = 5;
export const SHUT_RD = 0;
export const SHUT_WR = 1;

/**
 *     struct sockaddr_un { sa_family_t sun_family; char sun_path[108]; };
 *
 * Lays the address out in the set-up scratch and returns its length. A path that is too long is the caller's to refuse.
 */
function putAddress(path: string): number {
  return endAddress(putPath(encodePath(path)));
}

function encodePath(path: string): Buffer {
  const encoded = Buffer.from(path);
  if (encoded.length === 0 || encoded.length > LONGEST_SOCKET_PATH_BYTES || encoded.includes(0)) {
    throw new RangeError(
      `a socket path has 1 to ${LONGEST_SOCKET_PATH_BYTES} bytes, none of them zero: "${path}"`,
    );
  }
  return encoded;
}

/** Begins an address with `encoded`; returns where the path goes on. */
function putPath(encoded: Uint8Array): number {
  setupScratch.data.setUint16(0, AF_UNIX, true);
  setupScratch.bytes.set(encoded, PATH_OFFSET);
  return PATH_OFFSET + encoded.length;
}

/** Ends the path and returns the address's length. */
function endAddress(end: number): number {
  setupScratch.bytes[end] = 0;
  return end + 1;
}

export function createSocket(type: number = SOCK_STREAM): number {
  return checked(libcCalls.socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket");
}

/** A socket, or `-errno`. */
export function tryCreateSocket(type: number = SOCK_STREAM): number {
  return orErrno(libcCalls.socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

/** Connects beyond the backlog fail with EAGAIN if they do not block (Node's do not): room for a burst of clients. */
const USUAL_BACKLOG = 1024;

/** Binds and listens at `path`; throws `SystemCallError` (EADDRINUSE when the path exists). `mode` is that of the file. */
export function listenUnix(
  path: string,
  options: { type?: number; backlog?: number; mode?: number } = {},
): number {
  const fd = createSocket(options.type);
  // The umask decides the mode of the file that bind makes: no moment in which it is more open than asked for.
  const before = options.mode === undefined ? undefined : libcCalls.umask(0o777 & ~options.mode);
  try {
    const length = putAddress(path);
    checked(libcCalls.bind(fd, setupScratch.address, length), "bind", path);
    checked(libcCalls.listen(fd, options.backlog ?? USUAL_BACKLOG), "listen", path);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  } finally {
    if (before !== undefined) libcCalls.umask(before);
  }
}

/** Accepts one connection: its descriptor, or `-errno` (-EAGAIN when none waits). */
export function acceptUnix(listener: number): number {
  return orErrno(libcCalls.accept4(listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

/**
 * Connects `fd` to `path` without blocking: 0, or `-errno`. A Unix socket never answers EINPROGRESS; a listener
 * whose backlog is full gives EAGAIN, and the caller tries again later.
 */
export function connectUnix(fd: number, path: string): number {
  const length = putAddress(path);
  return orErrno(libcCalls.connect(fd, setupScratch.address, length));
}

/** Addresses that differ in the number at their end, such as a port; what comes before it is encoded once. */
export class NumberedAddresses {
  readonly #prefix: Buffer;

  /** `prefix` leaves room for the numbers. */
  constructor(prefix: string) {
    this.#prefix = encodePath(prefix);
  }

  /** As `connectUnix`, to the path that ends in `number`. */
  connect(fd: number, number: number): number {
    const length = endAddress(putAscii(`${number}`, putPath(this.#prefix)));
    return orErrno(libcCalls.connect(fd, setupScratch.address, length));
  }
}

/** Puts ASCII text into the set-up scratch at an offset, and returns where it ends. Short texts: no call is faster. */
function putAscii(text: string, at: number): number {
  const { bytes } = setupScratch;
  for (let index = 0; index < text.length; index++) bytes[at + index] = text.charCodeAt(index);
  return at + text.length;
}

/** Two connected sockets. */
export function socketPair(type: number = SOCK_STREAM): [number, number] {
  checked(
    libcCalls.socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, setupScratch.address),
    "socketpair",
  );
  return [setupScratch.data.getInt32(0, true), setupScratch.data.getInt32(4, true)];
}

/** Shuts one or both directions: 0 or `-errno` (-ENOTCONN when the peer is gone). */
export function shutdownSocket(fd: number, how: number): number {
  return orErrno(libcCalls.shutdown(fd, how));
}

/** An integer option of `fd`, of level SOL_SOCKET; throws if it is no socket. */
function socketOption(fd: number, option: number): number {
  const { data, address } = setupScratch;
  data.setInt32(0, 0, true);
  data.setUint32(4, 4, true);
  checked(libcCalls.getsockopt(fd, SOL_SOCKET, option, address, address + 4), "getsockopt", `fd ${fd}`);
  return data.getInt32(0, true);
}

/** True if `fd` is a socket that listens, false if it is a connected one; throws if it is no socket. */
export function isListening(fd: number): boolean {
  return socketOption(fd, SO_ACCEPTCONN) !== 0;
}

/** SOCK_STREAM, SOCK_SEQPACKET or another. */
export function socketType(fd: number): number {
  return socketOption(fd, SO_TYPE);
}

/** Whether it is a Unix socket, not a TCP one. */
export function isUnixSocket(fd: number): boolean {
  return socketOption(fd, SO_DOMAIN) === AF_UNIX;
}

/** What the kernel lets wait in the socket, its own overhead included: twice what was asked for. */
export function sendBufferBytes(fd: number): number {
  return socketOption(fd, SO_SNDBUF);
}

/** Asks for a send buffer of `bytes`; the kernel doubles it, and caps it at twice net.core.wmem_max: 0 or `-errno`. */
export function setSendBuffer(fd: number, bytes: number): number {
  setupScratch.data.setInt32(0, bytes, true);
  return orErrno(libcCalls.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, setupScratch.address, 4));
}

/** Makes a descriptor that somebody else opened non-blocking. */
export function setNonBlocking(fd: number): void {
  const flags = checked(libcCalls.fcntl(fd, F_GETFL, 0), "fcntl", `fd ${fd}`);
  checked(libcCalls.fcntl(fd, F_SETFL, flags | O_NONBLOCK), "fcntl", `fd ${fd}`);
}

/** The opposite, for whoever gets it and does not expect that. */
export function setBlocking(fd: number): void {
  const flags = checked(libcCalls.fcntl(fd, F_GETFL, 0), "fcntl", `fd ${fd}`);
  checked(libcCalls.fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), "fcntl", `fd ${fd}`);
}

const MSG_PEEK = 0x2;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/**
 * Copies up to `most` waiting bytes (a page at most) without taking them: their number, 0 at end of stream, or
 * `-errno`. They are in `peeked` until the next call of this file.
 */
export function peekBytes(fd: number, most: number): number {
  return orErrno(libcCalls.recv(fd, setupScratch.address, most, MSG_PEEK | MSG_DONTWAIT));
}

/** What `peekBytes` has found. */
export const peeked: Uint8Array = setupScratch.bytes;

/** As `peekBytes`: their text as latin1, or `-errno`. */
export function peekText(fd: number, most: number): string | number {
  const length = peekBytes(fd, most);
  return length < 0 ? length : Buffer.from(peeked.subarray(0, length)).toString("latin1");
}

/** Whether bytes wait: 1 if so, 0 at end of stream, -EAGAIN if none do, or the socket's error, which this clears. */
export function peekByte(fd: number): number {
  return orErrno(libcCalls.recv(fd, setupScratch.address, 1, MSG_PEEK | MSG_DONTWAIT));
}

/** Takes `length` waiting bytes (a page at most) and drops them: their number, or `-errno`. */
export function skipBytes(fd: number, length: number): number {
  return orErrno(libcCalls.recv(fd, setupScratch.address, length, MSG_DONTWAIT));
}

/** Sends a short ASCII text: the number of bytes taken, or `-errno`. */
export function sendText(fd: number, text: string): number {
  const length = putAscii(text, 0);
  return orErrno(libcCalls.send(fd, setupScratch.address, length, MSG_DONTWAIT | MSG_NOSIGNAL));
}
