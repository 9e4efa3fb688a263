/**
 * Follows one descriptor chain of a packed queue, along the ring and through an indirect table, and resolves its
 * buffers (virtio 1.4, 2.8.5 to 2.8.8). The driver is hostile: what is decided on is read once, checked, then used.
 * Hot path: allocates nothing unless it fails. Knows which descriptors it may look at, not whose they are.
 */
import { Access, Outcome } from "../memory/address.js";
import type { AddressSpace } from "../memory/address-space.js";
import type { Chain } from "./chain.js";
import type { HostReader } from "./device-queue.js";
import type { QueueFailureCode } from "./failure.js";
import { IndirectTable } from "./indirect-table.js";
import { DESC_BYTES, DescFlag } from "./layout.js";
import { PACKED_DESC } from "./packed-layout.js";
import type { RingArea } from "./ring-area.js";
import { type ChainProblem, MOST_INDIRECT_ENTRIES } from "./split-chain-walker.js";

const DESC_SHIFT = Math.log2(DESC_BYTES);

/** As in a split queue (2.7.5.2). */
const MOST_CHAIN_BYTES = 2 ** 32;

/** What is said about each kind of bad chain. */
const TEXTS = {
  "chain-too-large": "the chain has more than 2^32 bytes",
  "readable-after-writable": "readable after a writable one (virtio 1.4, 2.8.6)",
  "indirect-not-negotiated": "INDIRECT without VIRTIO_F_INDIRECT_DESC",
  "indirect-with-next": "INDIRECT and NEXT together",
  "indirect-nested": "INDIRECT inside an indirect table",
} as const satisfies Partial<Record<QueueFailureCode, string>>;

/** As the number of an entry: the descriptor is one of the ring's own. */
const NOT_IN_TABLE = -1;

export class PackedChainWalker {
  /** Why the latest `walk` ended in FAULT. */
  problem: ChainProblem = { code: "chain-loops", text: "" };
  /** Descriptors of the ring that the chain of the latest `walk` occupies. */
  slots = 0;

  readonly #size: number;
  readonly #desc: RingArea;
  readonly #space: AddressSpace;
  readonly #indirect: boolean;
  readonly #table: IndirectTable;

  /** About the chain being walked: where it starts, its bytes so far, whether a writable descriptor was met. */
  #first = 0;
  #chainBytes = 0;
  #sawWritable = false;

  constructor(size: number, desc: RingArea, space: AddressSpace, reader: HostReader, indirect: boolean) {
    this.#size = size;
    this.#desc = desc;
    this.#space = space;
    this.#indirect = indirect;
    this.#table = new IndirectTable(reader);
  }

  /**
   * Follows the chain that begins at descriptor `first`, whose flags were read and are given, over at most `mostSlots`
   * descriptors. Goes on after a MISS, to note further pages that are missing. `chain.head` becomes the buffer id, which
   * the last descriptor carries (2.8.6).
   */
  walk(first: number, firstFlags: number, mostSlots: number, chain: Chain): Outcome {
    chain.head = 0;
    chain.descriptorCount = 0;
    chain.readable.clear();
    chain.writable.clear();
    this.slots = 0;
    this.#first = first;
    this.#chainBytes = 0;
    this.#sawWritable = false;
    this.#space.beginChain();
    const desc = this.#desc;
    let outcome: Outcome = Outcome.OK;
    let index = first;
    for (;;) {
      if (this.slots === mostSlots) return this.#failLoop(index);
      const at = desc.base + index * DESC_BYTES;
      const words = desc.words32[at >>> desc.shift];
      const word = (at & desc.mask) >>> 2;
      // Signed, so that no call boxes them: `address-space.ts`.
      const low = words[word] | 0;
      const high = words[word + 1] | 0;
      const length = words[word + 2];
      const idAndFlags = words[word + 3];
      // The first one's flags decided that it is available, and were read in order with the rest. They hold.
      const flags = this.slots === 0 ? firstFlags : idAndFlags >>> 16;
      this.slots++;
      chain.descriptorCount++;
      chain.head = idAndFlags & 0xffff;
      if ((flags & DescFlag.INDIRECT) !== 0) {
        chain.descriptorCount--;
        const found = this.#walkTable(index, low, high, length, flags, chain);
        return found === Outcome.OK ? outcome : found;
      }
      const found = this.#addBuffer(chain, low, high, length, flags, index, NOT_IN_TABLE);
      if (found !== Outcome.OK) {
        if (found === Outcome.FAULT) return found;
        outcome = found;
      }
      if ((flags & DescFlag.NEXT) === 0) return outcome;
      if (++index === this.#size) index = 0;
    }
  }

  /** All entries of the table are the chain, in their order; of their flags only WRITE means something (2.8.7). */
  #walkTable(owner: number, low: number, high: number, length: number, flags: number, chain: Chain): Outcome {
    if (!this.#indirect) return this.#fail("indirect-not-negotiated", owner, NOT_IN_TABLE);
    if ((flags & DescFlag.NEXT) !== 0) return this.#fail("indirect-with-next", owner, NOT_IN_TABLE);
    const entries = length >>> DESC_SHIFT;
    if (length !== entries << DESC_SHIFT || entries === 0 || entries > MOST_INDIRECT_ENTRIES)
      return this.#failLength(owner, length);
    const table = this.#table;
    const opened = table.open(this.#space, low, high, length);
    if (opened !== Outcome.OK)
      return opened === Outcome.MISS ? opened : this.#failFault(owner, NOT_IN_TABLE, "indirect table");
    let outcome: Outcome = Outcome.OK;
    for (let index = 0; index < entries; index++) {
      chain.descriptorCount++;
      const at = table.locate(index);
      const data = table.data;
      const entryLow = data.getInt32(at, true);
      const entryHigh = data.getInt32(at + 4, true);
      const entryLength = data.getUint32(at + PACKED_DESC.len.offset, true);
      const entryFlags = data.getUint16(at + PACKED_DESC.flags.offset, true);
      if ((entryFlags & DescFlag.INDIRECT) !== 0) return this.#fail("indirect-nested", owner, index);
      const found = this.#addBuffer(chain, entryLow, entryHigh, entryLength, entryFlags, owner, index);
      if (found !== Outcome.OK) {
        if (found === Outcome.FAULT) return found;
        outcome = found;
      }
    }
    return outcome;
  }

  /** Adds one buffer to the chain. A buffer of no bytes is nowhere, so its address is not looked at. */
  #addBuffer(
    chain: Chain,
    low: number,
    high: number,
    length: number,
    flags: number,
    index: number,
    entry: number,
  ): Outcome {
    const writable = (flags & DescFlag.WRITE) !== 0;
    // A MISS leaves its part of the bytes out of the lists, so the sum is kept apart.
    this.#chainBytes += length;
    if (this.#chainBytes > MOST_CHAIN_BYTES) return this.#fail("chain-too-large", index, entry);
    if (writable) this.#sawWritable = true;
    else if (this.#sawWritable) return this.#fail("readable-after-writable", index, entry);
    if (length === 0) return Outcome.OK;
    const found = this.#space.translate(
      low,
      high,
      length,
      writable ? Access.WRITE : Access.READ,
      writable ? chain.writable : chain.readable,
    );
    if (found !== Outcome.FAULT) return found;
    return this.#failFault(index, entry, writable ? "writable buffer" : "readable buffer");
  }

  #fail(code: keyof typeof TEXTS, index: number, entry: number): Outcome {
    return this.#failWith(code, index, entry, TEXTS[code]);
  }

  #failLoop(index: number): Outcome {
    const text =
      "the chain is longer than what the ring has left for it, so it runs into itself or its predecessors";
    return this.#failWith("chain-loops", index, NOT_IN_TABLE, text);
  }

  #failLength(index: number, length: number): Outcome {
    const text = `an indirect table of ${length} bytes: it has to be a multiple of 16, at most ${MOST_INDIRECT_ENTRIES} entries`;
    return this.#failWith("indirect-length", index, NOT_IN_TABLE, text);
  }

  #failFault(index: number, entry: number, what: string): Outcome {
    const text = `its ${what} cannot be reached: ${this.#space.fault?.message ?? "no reason given"}`;
    return this.#failWith("buffer-unreachable", index, entry, text);
  }

  #failWith(code: QueueFailureCode, index: number, entry: number, text: string): Outcome {
    const place = entry === NOT_IN_TABLE ? "" : `entry ${entry} of the indirect table of `;
    this.problem = {
      code,
      text: `${place}descriptor ${index} of the chain at descriptor ${this.#first}: ${text}`,
    };
    return Outcome.FAULT;
  }
}
