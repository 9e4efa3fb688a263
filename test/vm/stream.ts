/**
 * The test data: a stream that both sides can make from a seed, and its checksum. The twin of the same generator
 * in guest/agent.c. Knows nothing of sockets.
 */
import { createHash } from "node:crypto";

/** The first bytes of the stream: xorshift32 (Marsaglia, 2003) as little-endian words. */
export function streamBytes(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc((length + 3) & ~3);
  let word = seed >>> 0 || 1;
  for (let at = 0; at < bytes.length; at += 4) {
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    bytes.writeInt32LE(word, at);
  }
  return bytes.subarray(0, length);
}

export function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
