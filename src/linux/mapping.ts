/**
 * Mapped memory: anonymous mappings, memfds and files mapped shared, and typed views over them.
 *
 * The rule that keeps the daemon alive: **an address range that a view was made over is never unmapped.** Reading
 * through a view of an unmapped range is a SIGSEGV that no JavaScript can catch. `park` puts anonymous pages over
 * such a range instead (a stale read gives zeros) and keeps it for the next mapping of that size, so address space
 * does not leak either. SIGBUS, from a peer that truncates its file, cannot be prevented here: see `fileProblem`.
 */
import { closeSync, fstatSync } from "node:fs";
import { errno, SystemCallError } from "./errors.js";
import { lastErrno, libcCalls, memfdCreate, viewMemory } from "./libc.js";

const PROT_READ = 1;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_HUGETLB = 4;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;

/** The page size that offsets and lengths of ordinary mappings are multiples of. */
export const PAGE_BYTES = 4096;

/**
 * The longest view that is ever made. Node 20 caps an ArrayBuffer at 4 GiB and aborts the process above it
 * (measured); a quarter of that leaves element indices well within what V8 handles fast.
 */
export const LONGEST_VIEW_BYTES = 2 ** 30;

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

function mmap(
  address: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) {
  const result = libcCalls.mmap(address, length, protection, flags, fd, offset);
  if (result === -1)
    throw new SystemCallError("mmap", lastErrno(), `${length} bytes of fd ${fd} at offset ${offset}`);
  return result;
}

/** Maps `length` bytes of zeroed private memory and returns its address. */
export function mapAnonymous(length: number): number {
  return mmap(0, length, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/** Unmaps a range **that no view was ever made over**. */
export function unmap(address: number, length: number): void {
  libcCalls.munmap(address, length);
}

/** Parked ranges by length, each to be used again by the next mapping of the same length. */
const parked = new Map<number, number[]>();

/**
 * Maps `length` bytes of `fd` from `offset`, shared, and writable unless `isReadOnly`: then a write is a SIGSEGV, and a
 * file that was opened for reading will do. `alignment` is the file's page size (2 MiB and more for hugetlbfs), of which
 * `offset` and `length` are multiples.
 */
export function mapShared(
  fd: number,
  offset: number,
  length: number,
  alignment = PAGE_BYTES,
  isReadOnly = false,
): number {
  const protection = isReadOnly ? PROT_READ : PROT_READ_WRITE;
  const reusable = parked.get(length)?.findIndex((address) => address % alignment === 0) ?? -1;
  if (reusable >= 0) {
    const address = parked.get(length)?.splice(reusable, 1)[0] as number;
    try {
      return mmap(address, length, protection, MAP_SHARED | MAP_FIXED, fd, offset);
    } catch (error) {
      park(address, length);
      throw error;
    }
  }
  // The kernel aligns a hugetlbfs mapping by itself when it chooses the address.
  return mmap(0, length, protection, MAP_SHARED | MAP_NORESERVE, fd, offset);
}

/** Takes a shared mapping away: zeros take its place, and the range waits for the next mapping of its length. */
export function park(address: number, length: number): void {
  mmap(address, length, PROT_READ_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  const ranges = parked.get(length);
  if (ranges === undefined) parked.set(length, [address]);
  else ranges.push(address);
}

/** An ArrayBuffer over mapped memory, `LONGEST_VIEW_BYTES` (and a little) at most. */
export function view(address: number, length: number): ArrayBuffer {
  return viewMemory(address, length);
}

/** memcpy between two host addresses. The ranges must not overlap. */
export function copyMemory(destination: number, source: number, length: number): void {
  libcCalls.memcpy(destination, source, length);
}

export interface MemfdOptions {
  /** Seal the file against shrinking, so that no peer can provoke a SIGBUS. Default true. */
  readonly sealShrink?: boolean;
  /** Take the pages from the huge page pool of the system's default size. Default false. */
  readonly hugetlb?: boolean;
}

/** Creates a memfd of `length` bytes and returns its descriptor. */
export function createMemfd(name: string, length: number, options: MemfdOptions = {}): number {
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (options.hugetlb === true ? MFD_HUGETLB : 0);
  const fd = memfdCreate(name, flags);
  if (fd < 0) throw new SystemCallError("memfd_create", lastErrno(), name);
  if (libcCalls.ftruncate(fd, length) < 0) {
    const error = new SystemCallError("ftruncate", lastErrno(), name);
    closeSync(fd);
    throw error;
  }
  if (options.sealShrink !== false) libcCalls.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
  return fd;
}

/**
 * What is wrong with a file that is about to be mapped up to byte `end`: it is too short (an access beyond its end
 * is a SIGBUS), or undefined if nothing is. `sealed` says whether it can still be made shorter later.
 */
export function fileProblem(fd: number, end: number): { problem: string | undefined; sealed: boolean } {
  const seals = libcCalls.fcntl(fd, F_GET_SEALS, 0);
  const sealed = seals >= 0 && (seals & F_SEAL_SHRINK) !== 0;
  const stat = fstatSync(fd);
  if (!stat.isFile()) return { problem: undefined, sealed };
  if (stat.size >= end) return { problem: undefined, sealed };
  return { problem: `the file is ${stat.size} bytes long and the region ends at byte ${end}`, sealed };
}

/** The page size of the file behind `fd`: 4096, or the huge page size on hugetlbfs. */
export function filePageBytes(fd: number): number {
  const stat = fstatSync(fd);
  // st_blksize is the huge page size on hugetlbfs. On other file systems it is a hint for reads that can exceed
  // a page (a disk's preferred transfer size), which must not be taken for an alignment rule.
  return stat.isFile() && stat.blksize >= 2 ** 21 ? stat.blksize : PAGE_BYTES;
}

/** True if `error` says that the system ran out of memory, address space or mappings. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof SystemCallError && (error.errno === errno.ENOMEM || error.errno === errno.EAGAIN);
}
