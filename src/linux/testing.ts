/** What tests of several folders need of the system and the product does not. Not part of the product. */
import { SystemCallError } from "./errors.js";
import { lastErrno, libcCalls } from "./libc.js";

const PROT_NONE = 0;
const MAP_PRIVATE = 0x02;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;

/** Reserves an address range without memory behind it: touching it faults. */
export function reserveRange(length: number): number {
  const address = libcCalls.mmap(0, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address === -1) throw new SystemCallError("mmap", lastErrno(), `${length} bytes`);
  return address;
}
