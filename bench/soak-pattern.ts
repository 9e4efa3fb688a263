/**
 * Bytes that a soak sends, so that whoever gets them can tell whether each one is the one that was due. A stream is the
 * pattern from some place on; neither packets nor pages nor buffers fit into its period.
 */

/** A prime. */
const PERIOD_BYTES = 65_521;

/** Two periods, so that any slice of up to one is contiguous. */
const pattern = Buffer.alloc(2 * PERIOD_BYTES);
{
  // xorshift32 (Marsaglia 2003): no run of bytes comes twice within a period, for all purposes here.
  let state = 0x9e3779b9;
  for (let at = 0; at < PERIOD_BYTES; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    pattern[at] = state;
  }
  pattern.copy(pattern, PERIOD_BYTES, 0, PERIOD_BYTES);
}

/** The most that one slice holds. */
export const LONGEST_SLICE_BYTES = PERIOD_BYTES;

/** A byte came that was not due. */
export class CorruptStream extends Error {
  override readonly name = "CorruptStream";
}

/** A stream being made, or being checked: it remembers how far it has come. */
export class PatternStream {
  bytes = 0;

  constructor(private readonly seed: number) {}

  get #at(): number {
    return (this.seed + this.bytes) % PERIOD_BYTES;
  }

  /** The next bytes; not to be changed, and valid for ever. */
  make(bytes: number): Uint8Array {
    const at = this.#at;
    this.bytes += bytes;
    return pattern.subarray(at, at + bytes);
  }

  /** Takes bytes that came; throws CorruptStream if they are not the ones that were due. */
  check(piece: Uint8Array): void {
    for (let done = 0; done < piece.length; ) {
      const bytes = Math.min(piece.length - done, LONGEST_SLICE_BYTES);
      const at = this.#at;
      const found = piece.subarray(done, done + bytes);
      if (pattern.compare(found, 0, bytes, at, at + bytes) !== 0) this.#complain(found, at);
      this.bytes += bytes;
      done += bytes;
    }
  }

  #complain(found: Uint8Array, at: number): never {
    const wrong = found.findIndex((byte, index) => byte !== pattern[at + index]);
    const due = pattern[at + wrong];
    throw new CorruptStream(
      `byte ${this.bytes + wrong} of the stream is ${found[wrong]}, and ${due} was due`,
    );
  }
}
