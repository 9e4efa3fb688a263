/**
 * Whether a session logs what it writes, and where: VHOST_F_LOG_ALL, SET_LOG_BASE, SET_LOG_FD and, for used rings, the
 * flag and address of SET_VRING_ADDR. What a log looks like is in src/memory/dirty-log.ts. Must not know messages.
 */
import { closeSync } from "node:fs";
import { signalEventfd } from "../linux/eventfd.js";
import { fileProblem, mapShared, PAGE_BYTES, roundUp } from "../linux/mapping.js";
import type { Logger } from "../log/logger.js";
import { DirtyLog } from "../memory/dirty-log.js";
import type { GuestMemory } from "../memory/guest-memory.js";
import type { SegmentList } from "../memory/segments.js";
import type { RingLog } from "../virtqueue/device-queue.js";
import { FdSlot } from "./descriptors.js";

/** The largest log that is taken: bits for 32 TiB of guest-physical addresses. Our choice, what one view can show. */
const MOST_LOG_BYTES = 2 ** 30;

export class DirtyLogging {
  /** What a device marks that writes into buffers; undefined while nothing is logged. */
  active: DirtyLog | undefined;
  /** SET_LOG_FD: signalled when something was logged. QEMU and rust-vmm send none. */
  readonly bell = new FdSlot();
  #log: DirtyLog | undefined;
  #isOn = false;
  #saidTooShort = false;

  constructor(
    private readonly memory: GuestMemory,
    private readonly logger: Logger,
    /** Called when `active` has changed. */
    private readonly changed: () => void,
  ) {}

  /** VHOST_F_LOG_ALL was acknowledged, or is no more; also while rings run. */
  setFeature(isOn: boolean): void {
    this.#isOn = isOn;
    this.#settle();
  }

  /** SET_LOG_BASE, with the descriptor that came along; closes it. Returns what is wrong with it. */
  setBase(fd: number, offset: bigint, size: bigint): string | undefined {
    let log: DirtyLog;
    try {
      const problem = this.#problemOf(fd, offset, size);
      if (problem !== undefined) return problem;
      const lead = Number(offset) % PAGE_BYTES;
      const length = roundUp(lead + Number(size), PAGE_BYTES);
      const mappingAddress = mapShared(fd, Number(offset) - lead, length);
      const mapping = { mappingAddress, mappingLength: length, offset: lead, length: Number(size) };
      log = new DirtyLog(this.memory, mapping);
    } catch (error) {
      return `the log cannot be mapped: ${(error as Error).message}`;
    } finally {
      closeSync(fd);
    }
    // The document: the front-end sends a new, larger log when memory was added; it has taken the old one's bits.
    const before = this.#log;
    this.#log = log;
    this.#saidTooShort = false;
    this.#settle();
    before?.close();
    return undefined;
  }

  #problemOf(fd: number, offset: bigint, size: bigint): string | undefined {
    if (size === 0n || size > BigInt(MOST_LOG_BYTES)) return `a log of ${size} bytes`;
    if (offset + size > BigInt(Number.MAX_SAFE_INTEGER)) return `a log at ${offset}`;
    return fileProblem(fd, Number(offset + size)).problem;
  }

  #settle(): void {
    const active = this.#isOn ? this.#log : undefined;
    if (active === this.active) return;
    this.active = active;
    const what = active === undefined ? "ended" : "began";
    this.logger.log({ event: "dirty-log", message: `logging of written pages ${what}` });
    this.changed();
  }

  /** After a burst. */
  tell(): void {
    if (this.active === undefined) return;
    if (this.bell.fd >= 0) signalEventfd(this.bell.fd);
    if (!this.active.isTooShort || this.#saidTooShort) return;
    this.#saidTooShort = true;
    this.logger.log({
      event: "dirty-log-too-short",
      message: "the device writes to guest-physical pages that the front-end's dirty log has no bits for",
    });
  }

  close(): void {
    this.active = undefined;
    this.#log?.close();
    this.#log = undefined;
    this.bell.close();
  }
}

/**
 * Where writes to a used ring are logged. Linux (vhost.c, log_used) goes by SET_VRING_ADDR's log address while nothing
 * is translated, and by where the ring was found otherwise; QEMU gives an I/O virtual address in that case.
 */
export function ringLog(log: DirtyLog, logAddress: bigint, isTranslated: boolean): RingLog {
  if (isTranslated) {
    return {
      wrote: (area: SegmentList, offset: number, length: number) => log.markSegments(area, offset, length),
    };
  }
  const start = Number(logAddress);
  return { wrote: (_area: SegmentList, offset: number, length: number) => log.mark(start + offset, length) };
}
