/**
 * The data that the demo moves: noise, made before the clock starts, and the sum by which both ends compare what they
 * have, taken after it has stopped. Must not know where it goes.
 */

import { createHash, randomFillSync } from "node:crypto";

export function noise(bytes: number): Buffer {
  return randomFillSync(Buffer.allocUnsafe(bytes));
}

/** Hexadecimal SHA-256. */
export function sumOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Gathers bytes as they come. More than expected are counted, and dropped. */
export class Gathered {
  bytes = 0;
  readonly #into: Buffer;

  constructor(expectedBytes: number) {
    this.#into = Buffer.alloc(expectedBytes);
  }

  add(piece: Uint8Array): void {
    const room = this.#into.length - this.bytes;
    this.#into.set(
      room < piece.length ? piece.subarray(0, Math.max(0, room)) : piece,
      Math.min(this.bytes, this.#into.length),
    );
    this.bytes += piece.length;
  }

  sum(): string {
    return sumOf(this.#into.subarray(0, this.bytes));
  }
}
