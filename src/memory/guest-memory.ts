/**
 * The memory table of one vhost-user session: which guest memory there is, and where this process has mapped it.
 * Owns the mappings. Does not know who asks: messages are the session's business, translation of I/O virtual
 * addresses is `iotlb.ts`. Lookups allocate nothing.
 */
import { closeSync } from "node:fs";
import { filePageBytes, fileProblem, mapShared, park } from "../linux/mapping.js";
import type { Gpa, HostAddress, Uva } from "./address.js";
import { MemoryError } from "./errors.js";
import { HostViews } from "./host-views.js";
import { RangeTable } from "./range-table.js";
import { checkRegion, describeRegion, mappingExtent, type Region, type RegionInput } from "./region.js";
import type { SegmentList } from "./segments.js";

/**
 * Our choice, and what GET_MAX_MEM_SLOTS answers: as many as KVM and rust-vmm offer, so that this device is never the
 * one that limits a VM's memory slots.
 */
export const MOST_REGIONS = 509;

export interface GuestMemoryOptions {
  /** Default `MOST_REGIONS`. */
  readonly mostRegions?: number;
  /** For whoever only looks on: nothing is ever written. Default false. */
  readonly isReadOnly?: boolean;
}

/** A region together with the descriptor that came with it. */
export interface RegionWithFd {
  readonly region: RegionInput;
  readonly fd: number;
}

export class GuestMemory {
  /** Changes when a region went away. Adding one leaves everything that was resolved before valid. */
  generation = 0;
  /** Views for JavaScript over mapped guest memory. */
  readonly views: HostViews;
  readonly mostRegions: number;
  readonly isReadOnly: boolean;
  /** The regions by their addresses, for the hot path of `table-space.ts` to look up. */
  readonly byGpa: RangeTable;
  readonly byUva: RangeTable;
  /** Where the host has mapped them, for the dirty log: from there to the guest-physical address. */
  readonly byHost: RangeTable;

  readonly #regions: Region[] = [];
  readonly #removalListeners: ((region: Region) => void)[] = [];
  #guestAddressesOnly = false;

  constructor(options: GuestMemoryOptions = {}) {
    this.mostRegions = options.mostRegions ?? MOST_REGIONS;
    this.isReadOnly = options.isReadOnly ?? false;
    this.byGpa = new RangeTable(this.mostRegions);
    this.byUva = new RangeTable(this.mostRegions);
    this.byHost = new RangeTable(this.mostRegions);
    this.views = new HostViews(this.#regions);
  }

  /** The regions, in the order in which they came. */
  get regions(): readonly Region[] {
    return this.#regions;
  }

  /**
   * Under VHOST_USER_PROTOCOL_F_GPA_ADDRESSES the front-end has no user addresses: wherever a message would carry one
   * it carries a guest-physical address, and the field of a region means nothing. Set before the first region comes;
   * every region's user address is then its guest-physical one.
   */
  set guestAddressesOnly(on: boolean) {
    if (on !== this.#guestAddressesOnly && this.#regions.length > 0) {
      throw new Error("guestAddressesOnly has to be set before the first region");
    }
    this.#guestAddressesOnly = on;
  }

  get guestAddressesOnly(): boolean {
    return this.#guestAddressesOnly;
  }

  /** Calls `listener` for each region that goes away, after its mapping was replaced. */
  onRemoval(listener: (region: Region) => void): void {
    this.#removalListeners.push(listener);
  }

  /**
   * ADD_MEM_REG: maps a region and closes `fd`, whether it succeeds or throws a MemoryError.
   */
  add(input: RegionInput, fd: number): Region {
    try {
      const region = this.#map(input, fd, this.#regions);
      this.#enter(region);
      return region;
    } finally {
      closeSync(fd);
    }
  }

  /**
   * SET_MEM_TABLE: these regions take the place of all. If one of them is refused (a MemoryError), the old table stays
   * as it was. Closes every fd in either case. Returns the new regions.
   */
  replaceAll(inputs: readonly RegionWithFd[]): readonly Region[] {
    const mapped: Region[] = [];
    try {
      for (const { region, fd } of inputs) mapped.push(this.#map(region, fd, mapped));
    } catch (error) {
      for (const region of mapped) park(region.mappingAddress, region.mappingLength);
      throw error;
    } finally {
      for (const { fd } of inputs) closeSync(fd);
    }
    this.clear();
    for (const region of mapped) this.#enter(region);
    return mapped;
  }

  /** REM_MEM_REG: the region with exactly these values goes away. Throws a MemoryError if there is none. */
  remove(input: Pick<RegionInput, "gpa" | "uva" | "size">): Region {
    const index = this.#regions.findIndex(
      (region) =>
        BigInt(region.gpa) === input.gpa &&
        BigInt(region.size) === input.size &&
        (this.#guestAddressesOnly || BigInt(region.uva) === input.uva),
    );
    if (index < 0)
      throw new MemoryError("unknown-region", `${describeRegion(input)} is not in the memory table`);
    const region = this.#regions[index];
    this.#leave(region, index);
    return region;
  }

  /** Takes every region away. */
  clear(): void {
    for (let index = this.#regions.length - 1; index >= 0; index--) this.#leave(this.#regions[index], index);
  }

  /** The host address of a user address, or -1. */
  uvaToHost(uva: Uva): HostAddress {
    return this.byUva.map(uva);
  }

  /** Appends the host segments of a guest-physical range. False if some of it lies outside of every region. */
  resolveGpa(gpa: Gpa, length: number, out: SegmentList): boolean {
    this.byGpa.address[0] = gpa;
    return resolvePlaced(this.byGpa, length, out);
  }

  /** Appends the host segments of a user address range. False if some of it lies outside of every region. */
  resolveUva(uva: Uva, length: number, out: SegmentList): boolean {
    this.byUva.address[0] = uva;
    return resolvePlaced(this.byUva, length, out);
  }

  /** How many bytes from `uva` on lie in one region, and so are contiguous on the host. 0 if it is in none. */
  contiguousFromUva(uva: Uva): number {
    const index = this.byUva.find(uva);
    return index < 0 ? 0 : this.byUva.end[index] - uva;
  }

  /** Checks a region against `others` and maps it. */
  #map(input: RegionInput, fd: number, others: readonly Region[]): Region {
    const { gpa, size, uva, mmapOffset } = checkRegion(
      this.#guestAddressesOnly ? { ...input, uva: input.gpa } : input,
    );
    const where = describeRegion(input);
    if (others.length >= this.mostRegions) {
      throw new MemoryError(
        "too-many-regions",
        `${where}: all ${this.mostRegions} slots of the memory table are taken`,
      );
    }
    for (const other of others) {
      if (gpa < other.gpa + other.size && other.gpa < gpa + size) {
        throw new MemoryError(
          "overlap-gpa",
          `${where} shares guest-physical addresses with ${describeRegion(other)}`,
        );
      }
      if (uva < other.uva + other.size && other.uva < uva + size) {
        throw new MemoryError("overlap-uva", `${where} shares user addresses with ${describeRegion(other)}`);
      }
    }
    const { isSealed, pageBytes } = inspectFile(fd, mmapOffset + size, where);
    const extent = mappingExtent(mmapOffset, size, pageBytes);
    let mappingAddress: number;
    try {
      mappingAddress = mapShared(fd, extent.fileOffset, extent.length, pageBytes, this.isReadOnly);
    } catch (cause) {
      throw new MemoryError("mapping-failed", `${where} cannot be mapped: ${(cause as Error).message}`, {
        cause,
      });
    }
    return {
      gpa,
      uva,
      size,
      mmapOffset,
      host: mappingAddress + extent.leadBytes,
      mappingAddress,
      mappingLength: extent.length,
      pageBytes,
      isSealed,
    };
  }

  #enter(region: Region): void {
    this.#regions.push(region);
    this.byGpa.insert(region.gpa, region.gpa + region.size, region.host);
    this.byUva.insert(region.uva, region.uva + region.size, region.host);
    this.byHost.insert(region.host, region.host + region.size, region.gpa);
  }

  #leave(region: Region, index: number): void {
    this.#regions.splice(index, 1);
    this.byGpa.remove(region.gpa);
    this.byUva.remove(region.uva);
    this.byHost.remove(region.host);
    this.generation++;
    this.views.forget(region);
    park(region.mappingAddress, region.mappingLength);
    for (const listener of this.#removalListeners) listener(region);
  }
}

/** What matters of the file behind a region; a MemoryError if the region does not fit into it. */
function inspectFile(fd: number, end: number, where: string): { isSealed: boolean; pageBytes: number } {
  try {
    const { problem, sealed } = fileProblem(fd, end);
    if (problem !== undefined) throw new MemoryError("file-too-short", `${where}: ${problem}`);
    return { isSealed: sealed, pageBytes: filePageBytes(fd) };
  } catch (cause) {
    if (cause instanceof MemoryError) throw cause;
    throw new MemoryError(
      "mapping-failed",
      `${where}: its file cannot be examined: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/**
 * Appends the host segments of `length` bytes at `table.address[0]`; false if some of it lies outside of every region.
 * Regions that touch in the guest need not touch on the host, so a range may take several segments. Hot path.
 */
export function resolvePlaced(table: RangeTable, length: number, out: SegmentList): boolean {
  const { address } = table;
  let remaining = length;
  while (remaining > 0) {
    const index = table.lookUp();
    if (index < 0) return false;
    const taken = Math.min(table.end[index] - address[0], remaining);
    out.append(table.target[index] + (address[0] - table.start[index]), taken);
    address[0] += taken;
    remaining -= taken;
  }
  return true;
}
