/** What the tests of this folder share: regions over memfds of their own. Not part of the product. */
import { closeSync, openSync } from "node:fs";
import { createMemfd, type MemfdOptions } from "../linux/mapping.js";
import type { GuestMemory } from "./guest-memory.js";
import type { Iotlb } from "./iotlb.js";
import type { Region, RegionInput } from "./region.js";

export const PAGE = 4096;
export const MIB = 2 ** 20;
export const GIB = 2 ** 30;

/** Numbers of a region; file offset 0 unless said otherwise. */
export interface Numbers {
  readonly gpa: number;
  readonly size: number;
  readonly uva: number;
  readonly mmapOffset?: number;
}

export function inputOf({ gpa, size, uva, mmapOffset = 0 }: Numbers): RegionInput {
  return { gpa: BigInt(gpa), size: BigInt(size), uva: BigInt(uva), mmapOffset: BigInt(mmapOffset) };
}

/** A new memfd that is just long enough for the region. */
export function memfdFor({ size, mmapOffset = 0 }: Numbers, options?: MemfdOptions): number {
  return createMemfd("test", mmapOffset + size, options);
}

/** Adds a region over a memfd of its own. */
export function addRegion(memory: GuestMemory, numbers: Numbers): Region {
  return memory.add(inputOf(numbers), memfdFor(numbers));
}

/** Opens the file behind a descriptor once more, so that it can be looked at when the first one is closed. */
export function reopen(fd: number): number {
  return openSync(`/proc/self/fd/${fd}`, "r+");
}

/** True if the descriptor is open. Closes it. */
export function wasOpen(fd: number): boolean {
  try {
    closeSync(fd);
    return true;
  } catch {
    return false;
  }
}

/** Host address and permission of a byte, by the hot path's own lookup; undefined if it is not mapped. */
export function lookUp({ table }: Iotlb, iova: bigint): { host: number; permission: number } | undefined {
  const position = table.find(Number(iova & 0xffff_ffffn), Number(iova >> 32n));
  if (position < 0) return undefined;
  const start = BigInt(table.startPage[position]) * 4096n + BigInt(table.startOffset[position]);
  return { host: table.host[position] + Number(iova - start), permission: table.permission[position] };
}
