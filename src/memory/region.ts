/**
 * One region of a memory table: what the front-end says of it, checked and as numbers, and where it is mapped.
 * Pure arithmetic, no system calls: `guest-memory.ts` does those.
 */
import type { Gpa, HostAddress, Uva } from "./address.js";
import { hex, MemoryError } from "./errors.js";

/** A region as it comes from the wire (vhost-user, "Memory region description"). */
export interface RegionInput {
  readonly gpa: bigint;
  /** In bytes. */
  readonly size: bigint;
  readonly uva: bigint;
  /** Where the region starts in the file, in bytes. */
  readonly mmapOffset: bigint;
}

/** The part of a file that has to be mapped so that a region can be reached. */
export interface MappingExtent {
  /** Where the mapping starts in the file: a multiple of the file's page size. */
  readonly fileOffset: number;
  /** Length of the mapping: a multiple of the file's page size. */
  readonly length: number;
  /** How far into the mapping the region starts. */
  readonly leadBytes: number;
}

/** A region that is mapped, with what there is to log about it. */
export interface Region {
  readonly gpa: Gpa;
  readonly uva: Uva;
  readonly size: number;
  readonly mmapOffset: number;
  /** Where this process sees the region's first byte. */
  readonly host: HostAddress;
  /** The whole mapping, which starts `leadBytes` before the region and may end after it. */
  readonly mappingAddress: HostAddress;
  readonly mappingLength: number;
  /** The page size of the file: 4096, or that of hugetlbfs. */
  readonly pageBytes: number;
  /** False if the front-end can still make the file shorter, and so provoke a SIGBUS here. */
  readonly isSealed: boolean;
}

const TWO_TO_53 = 2n ** 53n;

/** A region as text, for messages. */
export function describeRegion(region: {
  gpa: bigint | number;
  size: bigint | number;
  uva: bigint | number;
}): string {
  return `region gpa=${hex(region.gpa)} size=${hex(region.size)} uva=${hex(region.uva)}`;
}

/** The values of a region as exact numbers, or a MemoryError that says why they make no region. */
export function checkRegion(input: RegionInput): {
  gpa: number;
  size: number;
  uva: number;
  mmapOffset: number;
} {
  const { gpa, size, uva, mmapOffset } = input;
  const where = describeRegion(input);
  if (size === 0n) throw new MemoryError("empty", `${where} is empty`);
  for (const [name, start] of [
    ["guest-physical", gpa],
    ["user", uva],
    ["file", mmapOffset],
  ] as const) {
    // Covers sums that wrap at 2^64 too. No machine has physical or user addresses of more than 52 or 57 bits, and
    // Linux gives a process more than 47 bits only if it asks for them.
    if (start + size > TWO_TO_53) {
      throw new MemoryError(
        "address-overflow",
        `${where} at file offset ${hex(mmapOffset)}: its last ${name} address is beyond 2^53`,
      );
    }
  }
  return { gpa: Number(gpa), size: Number(size), uva: Number(uva), mmapOffset: Number(mmapOffset) };
}

/**
 * The smallest mapping of whole pages that holds `size` bytes from `mmapOffset`. Other back-ends map from byte 0 of
 * the file instead, since hugetlbfs refuses offsets that are no multiple of its page size; rounding meets that rule
 * and does not map the 2 GiB in front of a region that starts at 2 GiB.
 */
export function mappingExtent(mmapOffset: number, size: number, pageBytes: number): MappingExtent {
  const fileOffset = Math.floor(mmapOffset / pageBytes) * pageBytes;
  const end = Math.ceil((mmapOffset + size) / pageBytes) * pageBytes;
  return { fileOffset, length: end - fileOffset, leadBytes: mmapOffset - fileOffset };
}
