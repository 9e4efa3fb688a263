/** Random numbers that a seed repeats, and what a fuzzer does to an input: each change small, several at a time. */

/** Marsaglia's xorshift, 32 bits: fast, and the same everywhere. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = (seed ^ 0x9e37_79b9) >>> 0 || 1;
  }

  /** From 0 to `bound` - 1. */
  below(bound: number): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state >>> 0;
    return this.#state % bound;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)];
  }

  bytes(count: number): Uint8Array {
    return Uint8Array.from({ length: count }, () => this.below(256));
  }
}

/** Values at which programs change their minds. */
const EDGES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 43, 44, 45, 63, 64, 100, 127, 128, 255] as const;
const WIDE_EDGES = [0, 1, 0x7f, 0xff, 0x100, 0xfff, 0x1000, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0xffff_ffff];

type Change = (input: Uint8Array, random: Random, other: Uint8Array) => Uint8Array;

function joined(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** A part of `input`: where it starts and ends. */
function part(input: Uint8Array, random: Random): [number, number] {
  const start = random.below(input.length + 1);
  return [start, Math.min(input.length, start + 1 + random.below(16))];
}

function withByte(change: (byte: number, random: Random) => number): Change {
  return (input, random) => {
    if (input.length === 0) return random.bytes(1);
    const copy = input.slice();
    const at = random.below(copy.length);
    copy[at] = change(copy[at], random);
    return copy;
  };
}

const CHANGES: readonly Change[] = [
  withByte((byte, random) => byte ^ (1 << random.below(8))),
  withByte((_byte, random) => random.pick(EDGES)),
  withByte((_byte, random) => random.below(256)),
  withByte((byte, random) => byte + 1 + random.below(8)),
  withByte((byte, random) => byte - 1 - random.below(8)),
  // A number of 2, 4 or 8 bytes.
  (input, random) => {
    const bytes = random.pick([2, 4, 8]);
    if (input.length < bytes) return input;
    const copy = input.slice();
    const data = new DataView(copy.buffer);
    const at = random.below(copy.length - bytes + 1);
    const value = random.pick(WIDE_EDGES);
    if (bytes === 2) data.setUint16(at, value, true);
    else data.setUint32(at, value, true);
    if (bytes === 8) data.setUint32(at + 4, random.pick([0, 0, 1, 0xffff_ffff]), true);
    return copy;
  },
  // Left out, repeated, moved.
  (input, random) => {
    const [start, end] = part(input, random);
    return joined(input.subarray(0, start), input.subarray(end));
  },
  (input, random) => {
    const [start, end] = part(input, random);
    return joined(input.subarray(0, end), input.subarray(start));
  },
  (input, random) => {
    const [start, end] = part(input, random);
    const at = random.below(start + 1);
    return joined(
      input.subarray(0, at),
      input.subarray(start, end),
      input.subarray(at, start),
      input.subarray(end),
    );
  },
  (input, random) => {
    const at = random.below(input.length + 1);
    return joined(input.subarray(0, at), random.bytes(1 + random.below(8)), input.subarray(at));
  },
  // A part of another input put in, or put over; or its end instead of this one's.
  (input, random, other) => {
    const [start, end] = part(other, random);
    const at = random.below(input.length + 1);
    return joined(input.subarray(0, at), other.subarray(start, end), input.subarray(at));
  },
  (input, random, other) => {
    const [start, end] = part(other, random);
    const copy = input.slice();
    const at = random.below(copy.length + 1);
    copy.set(other.subarray(start, Math.min(end, start + copy.length - at)), at);
    return copy;
  },
  (input, random, other) =>
    joined(input.subarray(0, random.below(input.length + 1)), other.subarray(random.below(other.length + 1))),
];

/** A new input from an old one, and another one to borrow from. */
export function mutated(input: Uint8Array, other: Uint8Array, random: Random, mostBytes: number): Uint8Array {
  let result = input;
  for (let changes = 1 << random.below(4); changes > 0; changes--)
    result = random.pick(CHANGES)(result, random, other);
  return result.subarray(0, mostBytes);
}
