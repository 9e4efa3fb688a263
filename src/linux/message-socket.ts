/**
 * sendmsg and recvmsg with descriptors (SCM_RIGHTS), which `net.Socket` silently drops.
 * Knows nothing of what the bytes mean.
 */
import { closeSync } from "node:fs";
import { errno, orErrno } from "./errors.js";
import { libcCalls } from "./libc.js";
import { Scratch } from "./scratch.js";

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_NOSIGNAL = 0x4000;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x4000_0000;

/** The most descriptors one message can carry (SCM_MAX_FD, net/scm.h). */
export const MOST_DESCRIPTORS = 253;
/** How much is received by one call. */
export const RECEIVE_BYTES = 64 * 1024;

/**
 *     struct msghdr  { void *name; socklen_t namelen; struct iovec *iov; size_t iovlen;
 *                      void *control; size_t controllen; int flags; };                     56 bytes
 *     struct cmsghdr { size_t len; int level; int type; };                                 16 bytes
 */
const MSGHDR = { iov: 16, iovlen: 24, control: 32, controllen: 40, flags: 48, size: 56 } as const;
const IOVEC_AT = 64;
const CONTROL_AT = 128;
const CMSGHDR_BYTES = 16;
const CONTROL_BYTES = CMSGHDR_BYTES + 4 * MOST_DESCRIPTORS + 4;
const DATA_AT = 2048;

const block = new Scratch(DATA_AT + RECEIVE_BYTES);

function prepare(length: number, controlBytes: number): void {
  const { data, address } = block;
  block.bytes.fill(0, 0, MSGHDR.size);
  data.setBigUint64(IOVEC_AT, BigInt(address + DATA_AT), true);
  data.setBigUint64(IOVEC_AT + 8, BigInt(length), true);
  data.setBigUint64(MSGHDR.iov, BigInt(address + IOVEC_AT), true);
  data.setBigUint64(MSGHDR.iovlen, 1n, true);
  if (controlBytes === 0) return;
  data.setBigUint64(MSGHDR.control, BigInt(address + CONTROL_AT), true);
  data.setBigUint64(MSGHDR.controllen, BigInt(controlBytes), true);
}

export interface Received {
  /** Bytes received, 0 at end of stream, or `-errno`. */
  readonly result: number;
  /** A view of the bytes, valid until the next call. */
  readonly bytes: Uint8Array;
  /** Descriptors that came with the first of these bytes; the caller owns them. */
  readonly descriptors: number[];
  /** The kernel dropped descriptors: too many came, or this process may open no more. Those that came are closed. */
  readonly descriptorsLost: boolean;
}

/**
 * Receives up to `most` bytes without blocking. On a stream the kernel never returns bytes of two messages with
 * descriptors in one call, so `descriptors` belong to the first byte.
 */
export function receiveMessage(fd: number, most: number = RECEIVE_BYTES): Received {
  prepare(Math.min(most, RECEIVE_BYTES), CONTROL_BYTES);
  let result: number;
  do result = orErrno(libcCalls.recvmsg(fd, block.address, MSG_CMSG_CLOEXEC | MSG_DONTWAIT));
  while (result === -errno.EINTR);
  const bytes = block.bytes.subarray(DATA_AT, DATA_AT + Math.max(result, 0));
  if (result < 0) return { result, bytes, descriptors: [], descriptorsLost: false };
  const descriptors = readDescriptors(Number(block.data.getBigUint64(MSGHDR.controllen, true)));
  const descriptorsLost = (block.data.getInt32(MSGHDR.flags, true) & MSG_CTRUNC) !== 0;
  if (descriptorsLost) for (const descriptor of descriptors.splice(0)) closeSync(descriptor);
  return { result, bytes, descriptors, descriptorsLost };
}

/** Walks the control messages: a sender may put its descriptors into several. */
function readDescriptors(controlBytes: number): number[] {
  const { data } = block;
  const descriptors: number[] = [];
  let at = CONTROL_AT;
  const end = CONTROL_AT + controlBytes;
  while (at + CMSGHDR_BYTES <= end) {
    const length = Number(data.getBigUint64(at, true));
    if (length < CMSGHDR_BYTES || at + length > end) break;
    if (data.getInt32(at + 8, true) === SOL_SOCKET && data.getInt32(at + 12, true) === SCM_RIGHTS) {
      for (let fdAt = at + CMSGHDR_BYTES; fdAt + 4 <= at + length; fdAt += 4) {
        descriptors.push(data.getInt32(fdAt, true));
      }
    }
    at += Math.ceil(length / 8) * 8;
  }
  return descriptors;
}

/**
 * Sends `bytes` (64 KiB at most) without blocking, `descriptors` with the first of them: the number of bytes taken
 * (perhaps fewer), or `-errno`. The descriptors stay the caller's, and are gone with the first byte taken.
 */
export function sendMessage(fd: number, bytes: Uint8Array, descriptors: readonly number[] = []): number {
  if (bytes.length > RECEIVE_BYTES || descriptors.length > MOST_DESCRIPTORS) {
    throw new RangeError(`a message has at most ${RECEIVE_BYTES} bytes and ${MOST_DESCRIPTORS} descriptors`);
  }
  const controlLength = CMSGHDR_BYTES + 4 * descriptors.length;
  prepare(bytes.length, descriptors.length === 0 ? 0 : Math.ceil(controlLength / 8) * 8);
  block.bytes.set(bytes, DATA_AT);
  if (descriptors.length > 0) {
    const { data } = block;
    data.setBigUint64(CONTROL_AT, BigInt(controlLength), true);
    data.setInt32(CONTROL_AT + 8, SOL_SOCKET, true);
    data.setInt32(CONTROL_AT + 12, SCM_RIGHTS, true);
    descriptors.forEach((descriptor, index) => {
      data.setInt32(CONTROL_AT + CMSGHDR_BYTES + 4 * index, descriptor, true);
    });
  }
  let result: number;
  do result = orErrno(libcCalls.sendmsg(fd, block.address, MSG_NOSIGNAL | MSG_DONTWAIT));
  while (result === -errno.EINTR);
  return result;
}
