/**
 * Unix sockets as the programs of the bench use them: blocking ones for a single stream, as most programs have them,
 * and large buffers that nobody looks into.
 */
import { closeSync } from "node:fs";
import { checked, errno, orErrno, SystemCallError } from "../src/linux/errors.js";
import { libcCalls } from "../src/linux/libc.js";
import { Scratch } from "../src/linux/scratch.js";
import { acceptUnix, connectUnix, createSocket } from "../src/linux/unix-socket.js";

const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;

/** What one read asks for: more than a socket holds. */
export const READ_BYTES = 256 * 1024;

/** Payload that comes and goes. */
export const payload = new Scratch(READ_BYTES);
payload.bytes.fill(0x55);
const argument = new Scratch(16);

/** Reads and writes wait from now on. */
export function setBlocking(fd: number): void {
  const flags = checked(libcCalls.fcntl(fd, F_GETFL, 0), "fcntl");
  checked(libcCalls.fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), "fcntl");
}

/** A blocking socket that is connected. */
export function connectBlocking(path: string): number {
  const fd = createSocket();
  setBlocking(fd);
  const result = connectUnix(fd, path);
  if (result === 0) return fd;
  closeSync(fd);
  throw new SystemCallError("connect", -result, path);
}

/** Waits for a connection; it blocks as well, but a read returns with -EAGAIN after `timeoutMs` if that is given. */
export function acceptBlocking(listener: number, timeoutMs?: number): number {
  setBlocking(listener);
  const fd = acceptUnix(listener);
  if (fd < 0) throw new SystemCallError("accept4", -fd, "");
  setBlocking(fd);
  if (timeoutMs !== undefined) {
    // struct timeval { long tv_sec; long tv_usec; }
    argument.data.setBigInt64(0, 0n, true);
    argument.data.setBigInt64(8, BigInt(timeoutMs * 1000), true);
    checked(libcCalls.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, argument.address, 16), "setsockopt");
  }
  return fd;
}

/** Writes so many bytes: their number, fewer if the socket does not block and is full, or `-errno`. */
export function writeBytes(fd: number, bytes: number): number {
  return orErrno(libcCalls.write(fd, payload.address, bytes));
}

/** Reads what is there, up to `most`: the number of bytes, 0 at the end, or `-errno`. */
export function readBytes(fd: number, most = READ_BYTES): number {
  return orErrno(libcCalls.read(fd, payload.address, most));
}

/** Writes all of it to a blocking socket. */
export function writeAll(fd: number, bytes: number): void {
  for (let left = bytes; left > 0; ) {
    const written = writeBytes(fd, left);
    if (written >= 0) left -= written;
    else if (written !== -errno.EINTR) throw new SystemCallError("write", -written, "");
  }
}
