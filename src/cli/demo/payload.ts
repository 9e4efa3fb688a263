/*
 * The data that the demo moves: a stream of bytes that never repeats, and the sum by which both ends compare what
 * they have seen. Must not know where it goes.
 */

import { createCipheriv, createHash, randomBytes } from "node:crypto";

/** How much is made, and written, at a time. */
const CHUNK_BYTES = 64 * 1024;
const ZEROS = new Uint8Array(CHUNK_BYTES);

/** Counts and sums up bytes as they pass. */
export class Digest {
  bytes = 0;
  readonly #hash = createHash("sha256");

  add(chunk: Uint8Array): void {
    this.bytes += chunk.length;
    this.#hash.update(chunk);
  }

  /** Hexadecimal SHA-256 of everything. Nothing can be added afterwards. */
  sum(): string {
    return this.#hash.digest("hex");
  }
}

/** `totalBytes` of noise in chunks, added to `digest` as they are taken. */
export function* noise(totalBytes: number, digest: Digest): Generator<Uint8Array> {
  const cipher = createCipheriv("aes-128-ctr", randomBytes(16), randomBytes(16));
  for (let left = totalBytes; left > 0; left -= CHUNK_BYTES) {
    const chunk = cipher.update(ZEROS.subarray(0, Math.min(CHUNK_BYTES, left)));
    digest.add(chunk);
    yield chunk;
  }
}
