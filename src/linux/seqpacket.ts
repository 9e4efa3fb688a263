/**
 * Connected Unix sockets that keep message boundaries (SOCK_SEQPACKET), by descriptor: how long the next message is,
 * how long one may be, and the empty message, which looks like end of file to readv and like nothing to writev.
 */
import { orErrno } from "./errors.js";
import { libcCalls } from "./libc.js";
import { setupScratch } from "./scratch.js";
import { sendBufferBytes, setSendBuffer } from "./unix-socket.js";

const MSG_PEEK = 0x2;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const SOL_SOCKET = 1;
const SO_TIMESTAMP = 29;

/** What `peekMessage` says when none will come any more. Less than every `-errno` (Linux: MAX_ERRNO is 4095). */
export const END_OF_MESSAGES = -4096;

/**
 * The length of the next message, which stays where it is: 0 if it is empty, `END_OF_MESSAGES` if there will be none,
 * or `-errno` (-EAGAIN if none waits).
 */
export function peekMessage(fd: number): number {
  const bytes = orErrno(libcCalls.recv(fd, setupScratch.address, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT));
  return bytes === 0 ? peekEmptyMessage(fd) : bytes;
}

/**
 *     struct msghdr { void *name; socklen_t namelen; struct iovec *iov; size_t iovlen;
 *                     void *control; size_t controllen; int flags; };                      56 bytes
 */
const MSGHDR = { control: 32, controllen: 40, size: 56 } as const;
const CONTROL_AT = 64;
/** More than a timestamp takes: 16 bytes of header, 16 of time. */
const CONTROL_BYTES = 64;

/**
 * recv(2) has returned 0: an empty message, or the end? A message of any length comes with the time at which it was
 * sent, if one asks for it (Linux: even one that was sent before), and end of file comes with nothing. The poll flags
 * would not do: an empty message may wait in front of the end.
 */
function peekEmptyMessage(fd: number): number {
  const { data, bytes, address } = setupScratch;
  data.setInt32(0, 1, true);
  const asked = orErrno(libcCalls.setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, address, 4));
  if (asked < 0) return asked;
  bytes.fill(0, 0, MSGHDR.size);
  data.setBigUint64(MSGHDR.control, BigInt(address + CONTROL_AT), true);
  data.setBigUint64(MSGHDR.controllen, BigInt(CONTROL_BYTES), true);
  const result = orErrno(libcCalls.recvmsg(fd, address, MSG_PEEK | MSG_DONTWAIT));
  if (result < 0) return result;
  return data.getBigUint64(MSGHDR.controllen, true) > 0n ? 0 : END_OF_MESSAGES;
}

/** Takes the next message: its first `length` bytes to host address `target`, and nothing of the rest. Bytes, or `-errno`. */
export function receiveMessageAt(fd: number, target: number, length: number): number {
  return orErrno(libcCalls.recv(fd, target, length, MSG_DONTWAIT));
}

/** Takes an empty message: 0, or `-errno`. */
export function takeEmptyMessage(fd: number): number {
  return receiveMessageAt(fd, setupScratch.address, 0);
}

/** Sends an empty message (a writev of nothing sends none): 0, or `-errno`. */
export function sendEmptyMessage(fd: number): number {
  return orErrno(libcCalls.send(fd, setupScratch.address, 0, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/** What of SO_SNDBUF the kernel keeps for itself (Linux, net/unix/af_unix.c unix_dgram_sendmsg: `len > sk_sndbuf - 32`). */
const RESERVED_BYTES = 32;

/** The longest message that `fd` takes now; a longer one gives EMSGSIZE. */
export function longestMessage(fd: number): number {
  return sendBufferBytes(fd) - RESERVED_BYTES;
}

/**
 * Asks that `fd` take messages of `bytes`. The kernel doubles what is asked for, and allows twice net.core.wmem_max, so
 * the outcome is for `longestMessage` to tell.
 */
export function allowMessages(fd: number, bytes: number): void {
  if (longestMessage(fd) < bytes) setSendBuffer(fd, Math.ceil((bytes + RESERVED_BYTES) / 2));
}
