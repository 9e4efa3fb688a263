/**
 * The dirty log of a migration: one bit for each guest-physical page that the device wrote, in memory that the
 * front-end shares (vhost-user, Migration). Whatever an address was translated through, it ends in a host segment, and
 * that lies in one region, so the page is known exactly. Does not know who writes, nor when logging is on.
 */
import { park, view } from "../linux/mapping.js";
import type { GuestMemory } from "./guest-memory.js";
import type { SegmentList } from "./segments.js";

/** VHOST_LOG_PAGE (linux include/uapi/linux/vhost.h; the document calls it 4 KiB): fixed. */
export const LOG_PAGE_BYTES = 4096;

/** The part of a shared file that is the log, and where it is mapped. */
export interface LogMapping {
  readonly mappingAddress: number;
  readonly mappingLength: number;
  /** How far into the mapping the log starts, and how long it is. */
  readonly offset: number;
  readonly length: number;
}

export class DirtyLog {
  /** A page was written that the log has no bit for: the front-end's log is too short. */
  isTooShort = false;
  readonly #bits: Uint8Array;

  /** Owns the mapping from now on. */
  constructor(
    private readonly memory: GuestMemory,
    private readonly mapping: LogMapping,
  ) {
    const { mappingAddress, offset, length } = mapping;
    this.#bits = new Uint8Array(view(mappingAddress, offset + length), offset, length);
  }

  /**
   * Marks the pages of a guest-physical range. After the write, and atomically with what the front-end does there: it
   * takes the bits away while it copies the pages ("atomically set the bit"; a full fence, too).
   */
  mark(gpa: number, length: number): void {
    if (length <= 0) return;
    const last = Math.floor((gpa + length - 1) / LOG_PAGE_BYTES);
    for (let page = Math.floor(gpa / LOG_PAGE_BYTES); page <= last; page++) {
      const byte = Math.floor(page / 8);
      if (byte < this.#bits.length) Atomics.or(this.#bits, byte, 1 << (page % 8));
      else this.isTooShort = true;
    }
  }

  /** Marks `length` bytes from byte `offset` of what the segments cover. */
  markSegments(segments: SegmentList, offset: number, length: number): void {
    let skip = offset;
    let remaining = length;
    for (let segment = 0; segment < segments.count && remaining > 0; segment++) {
      const here = segments.length[segment];
      if (skip >= here) {
        skip -= here;
        continue;
      }
      const taken = Math.min(here - skip, remaining);
      this.#markHost(segments.address[segment] + skip, taken);
      remaining -= taken;
      skip = 0;
    }
  }

  /** A host range can reach over two regions that lie side by side on the host, and not in the guest. */
  #markHost(host: number, length: number): void {
    const { byHost } = this.memory;
    let at = host;
    let remaining = length;
    while (remaining > 0) {
      const index = byHost.find(at);
      if (index < 0) return;
      const taken = Math.min(byHost.end[index] - at, remaining);
      this.mark(byHost.target[index] + (at - byHost.start[index]), taken);
      at += taken;
      remaining -= taken;
    }
  }

  close(): void {
    park(this.mapping.mappingAddress, this.mapping.mappingLength);
  }
}
