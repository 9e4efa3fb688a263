/** What is fuzzed, as the engine sees it; and how a target takes values out of an input. */

export interface Target {
  readonly name: string;
  /** What it is about, in one line, for the list of targets. */
  readonly about: string;
  readonly mostBytes: number;
  /** Inputs to begin with, beside the corpus. */
  readonly seeds: readonly Uint8Array[];
  /** Runs the program on an input; throws if anything is not as it has to be. Leaves nothing behind. */
  run(input: Uint8Array): void;
}

/** Reads an input from its start. What is beyond its end is 0: every input means something. */
export class Input {
  #at = 0;

  constructor(private readonly bytes: Uint8Array) {}

  get isAtEnd(): boolean {
    return this.#at >= this.bytes.length;
  }

  u8(): number {
    return this.bytes[this.#at++] ?? 0;
  }

  u16(): number {
    return this.u8() | (this.u8() << 8);
  }

  u32(): number {
    return (this.u16() | (this.u16() << 16)) >>> 0;
  }

  u64(): bigint {
    return BigInt(this.u32()) | (BigInt(this.u32()) << 32n);
  }

  /** At most so many; fewer at the end of the input. */
  take(most: number): Uint8Array {
    const taken = this.bytes.slice(this.#at, this.#at + most);
    this.#at += taken.length;
    return taken;
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.u8() % items.length];
  }
}
