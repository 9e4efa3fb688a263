/**
 * The inflight file of a session (vhost-user, Inflight I/O tracking): a region for each queue, and behind them a table
 * of the device's own. The front-end keeps it while the back-end may die. Must not know messages.
 */
import { closeSync } from "node:fs";
import { createMemfd, fileProblem, mapShared, PAGE_BYTES, park, roundUp, view } from "../linux/mapping.js";
import { InflightRing, inflightBytes } from "../virtqueue/inflight-ring.js";

/** Our choice: many times what a device with 256 queues of 1024 descriptors takes. */
const MOST_BYTES = 64 * 2 ** 20;

/** Where the device's table begins, behind `queueCount` queues of `queueSize`. */
export function tableOffset(queueCount: number, queueSize: number): number {
  return roundUp(queueCount * inflightBytes(queueSize), PAGE_BYTES);
}

/** A new, empty inflight file, for the front-end to keep. */
export function createInflightFile(
  queueCount: number,
  queueSize: number,
  tableBytes: number,
): { fd: number; bytes: number } {
  const bytes = roundUp(tableOffset(queueCount, queueSize) + tableBytes, PAGE_BYTES);
  return { fd: createMemfd("bit33-inflight", bytes), bytes };
}

export class InflightFile {
  readonly #address: number;
  readonly #length: number;
  readonly #buffer: ArrayBuffer;
  /** The file cannot become shorter. */
  readonly isSealed: boolean;

  /** Maps `length` bytes from `offset` of `fd`, which it closes in any case. Throws an Error that says what is wrong. */
  constructor(
    fd: number,
    offset: bigint,
    length: bigint,
    readonly queueCount: number,
    readonly queueSize: number,
  ) {
    try {
      if (length > BigInt(MOST_BYTES) || offset % BigInt(PAGE_BYTES) !== 0n || offset > BigInt(2 ** 52))
        throw new Error(`${length} bytes at ${offset} of a file are no inflight region`);
      if (Number(length) < queueCount * inflightBytes(queueSize))
        throw new Error(`${length} bytes are too few for ${queueCount} queues of ${queueSize}`);
      const { problem, sealed } = fileProblem(fd, Number(offset + length));
      if (problem !== undefined) throw new Error(problem);
      this.isSealed = sealed;
      this.#length = roundUp(Number(length), PAGE_BYTES);
      this.#address = mapShared(fd, Number(offset), this.#length);
    } finally {
      closeSync(fd);
    }
    this.#buffer = view(this.#address, Number(length));
  }

  /** The region of a queue, if it has one that fits. */
  ring(index: number, size: number): InflightRing | undefined {
    if (index >= this.queueCount || size > this.queueSize) return undefined;
    return new InflightRing(this.#buffer, index * inflightBytes(this.queueSize), size);
  }

  /** What is behind the queue regions; empty in a file that another back-end made. */
  get table(): Uint32Array {
    const start = tableOffset(this.queueCount, this.queueSize);
    const words = Math.max(0, Math.floor((this.#buffer.byteLength - start) / 4));
    return words === 0 ? new Uint32Array(0) : new Uint32Array(this.#buffer, start, words);
  }

  close(): void {
    park(this.#address, this.#length);
  }
}
