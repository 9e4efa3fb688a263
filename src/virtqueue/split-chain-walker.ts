/**
 * Follows one descriptor chain of a split queue, through the table of the queue and an indirect table, and resolves
 * its buffers (virtio 1.4, 2.7.4 and 2.7.5). The driver is hostile: each field is read once, checked, then used.
 * Hot path: allocates nothing unless it fails. Knows neither ring.
 */
import { Access, Outcome } from "../memory/address.js";
import type { AddressSpace } from "../memory/address-space.js";
import type { Chain } from "./chain.js";
import type { HostReader } from "./device-queue.js";
import type { QueueFailureCode } from "./failure.js";
import { IndirectTable } from "./indirect-table.js";
import { DESC, DESC_BYTES, DescFlag, MOST_QUEUE_SIZE } from "./layout.js";
import type { RingArea } from "./ring-area.js";

const DESC_SHIFT = Math.log2(DESC_BYTES);

/** 2.7.5.2: a driver must not make a chain longer than this in total. */
const MOST_CHAIN_BYTES = 2 ** 32;

/**
 * 2.7.5.3.1 forbids the driver an indirect chain longer than the queue size. Linux drivers with many segments have
 * not always kept to it, so the limit is our choice: the largest queue that the specification knows.
 */
export const MOST_INDIRECT_ENTRIES = MOST_QUEUE_SIZE;

/** What is said about each kind of bad chain. Kept out of the hot functions, which V8 inlines only while short. */
const TEXTS = {
  "chain-loops": "the chain is longer than its table, so it loops",
  "chain-too-large": "the chain has more than 2^32 bytes (virtio 1.4, 2.7.5.2)",
  "readable-after-writable": "readable after a writable one (virtio 1.4, 2.7.4.2)",
  "indirect-not-negotiated": "INDIRECT without VIRTIO_F_INDIRECT_DESC",
  "indirect-with-next": "INDIRECT and NEXT together (virtio 1.4, 2.7.5.3.1)",
  "indirect-nested": "INDIRECT inside an indirect table (virtio 1.4, 2.7.5.3.1)",
} as const satisfies Partial<Record<QueueFailureCode, string>>;

export interface ChainProblem {
  readonly code: QueueFailureCode;
  /** The descriptor, and what is wrong with it. */
  readonly text: string;
}

/** As the number of an entry: the descriptor is one of the queue's own. */
const NOT_IN_TABLE = -1;

export class SplitChainWalker {
  /** Why the latest `walk` ended in FAULT. */
  problem: ChainProblem = { code: "chain-loops", text: "" };

  readonly #size: number;
  readonly #desc: RingArea;
  readonly #space: AddressSpace;
  readonly #indirect: boolean;
  readonly #table: IndirectTable;

  /** About the chain being walked: its bytes so far, and whether a writable descriptor was met. */
  #chainBytes = 0;
  #sawWritable = false;

  constructor(size: number, desc: RingArea, space: AddressSpace, reader: HostReader, indirect: boolean) {
    this.#size = size;
    this.#desc = desc;
    this.#space = space;
    this.#indirect = indirect;
    this.#table = new IndirectTable(reader);
  }

  /** Follows the chain at `head`. Goes on after a MISS, to note further pages that are missing. */
  walk(head: number, chain: Chain): Outcome {
    chain.head = head;
    chain.descriptorCount = 0;
    chain.readable.clear();
    chain.writable.clear();
    this.#chainBytes = 0;
    this.#sawWritable = false;
    this.#space.beginChain();
    const desc = this.#desc;
    let outcome: Outcome = Outcome.OK;
    let index = head;
    for (;;) {
      if (chain.descriptorCount === this.#size) return this.#fail("chain-loops", chain, index, NOT_IN_TABLE);
      chain.descriptorCount++;
      const at = desc.base + index * DESC_BYTES;
      const words = desc.words32[at >>> desc.shift];
      const word = (at & desc.mask) >>> 2;
      const low = words[word];
      const high = words[word + 1];
      const length = words[word + 2];
      const flagsAndNext = words[word + 3];
      if ((flagsAndNext & DescFlag.INDIRECT) !== 0) {
        const found = this.#walkTable(index, low, high, length, flagsAndNext, chain);
        return found === Outcome.OK ? outcome : found;
      }
      const found = this.#addBuffer(chain, low, high, length, flagsAndNext, index, NOT_IN_TABLE);
      if (found !== Outcome.OK) {
        if (found === Outcome.FAULT) return found;
        outcome = found;
      }
      if ((flagsAndNext & DescFlag.NEXT) === 0) return outcome;
      const next = flagsAndNext >>> 16;
      if (next >= this.#size) return this.#failNext(chain, index, NOT_IN_TABLE, next, this.#size);
      index = next;
    }
  }

  /** Follows the indirect table that descriptor `owner` refers to. The WRITE flag of `owner` means nothing (2.7.5.3.2). */
  #walkTable(owner: number, low: number, high: number, length: number, flags: number, chain: Chain): Outcome {
    if (!this.#indirect) return this.#fail("indirect-not-negotiated", chain, owner, NOT_IN_TABLE);
    if ((flags & DescFlag.NEXT) !== 0) return this.#fail("indirect-with-next", chain, owner, NOT_IN_TABLE);
    const entries = length >>> DESC_SHIFT;
    if (length !== entries << DESC_SHIFT || entries === 0 || entries > MOST_INDIRECT_ENTRIES)
      return this.#failLength(chain, owner, length);
    const table = this.#table;
    const opened = table.open(this.#space, low, high, length);
    if (opened !== Outcome.OK)
      return opened === Outcome.MISS ? opened : this.#failFault(chain, owner, NOT_IN_TABLE, "indirect table");
    let outcome: Outcome = Outcome.OK;
    let index = 0;
    for (let walked = 0; ; walked++) {
      if (walked === entries) return this.#fail("chain-loops", chain, owner, index);
      chain.descriptorCount++;
      const at = table.locate(index);
      const data = table.data;
      const entryLow = data.getUint32(at, true);
      const entryHigh = data.getUint32(at + 4, true);
      const entryLength = data.getUint32(at + DESC.len.offset, true);
      const flagsAndNext = data.getUint32(at + DESC.flags.offset, true);
      if ((flagsAndNext & DescFlag.INDIRECT) !== 0) return this.#fail("indirect-nested", chain, owner, index);
      const found = this.#addBuffer(chain, entryLow, entryHigh, entryLength, flagsAndNext, owner, index);
      if (found !== Outcome.OK) {
        if (found === Outcome.FAULT) return found;
        outcome = found;
      }
      if ((flagsAndNext & DescFlag.NEXT) === 0) return outcome;
      const next = flagsAndNext >>> 16;
      if (next >= entries) return this.#failNext(chain, owner, index, next, entries);
      index = next;
    }
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
    if (this.#chainBytes > MOST_CHAIN_BYTES) return this.#fail("chain-too-large", chain, index, entry);
    if (writable) this.#sawWritable = true;
    else if (this.#sawWritable) return this.#fail("readable-after-writable", chain, index, entry);
    if (length === 0) return Outcome.OK;
    const found = this.#space.translate(
      low,
      high,
      length,
      writable ? Access.WRITE : Access.READ,
      writable ? chain.writable : chain.readable,
    );
    if (found !== Outcome.FAULT) return found;
    return this.#failFault(chain, index, entry, writable ? "writable buffer" : "readable buffer");
  }

  #fail(code: keyof typeof TEXTS, chain: Chain, index: number, entry: number): Outcome {
    return this.#failWith(code, chain, index, entry, TEXTS[code]);
  }

  #failNext(chain: Chain, index: number, entry: number, next: number, count: number): Outcome {
    const text = `next ${next} points outside of the ${count} descriptors of its table`;
    return this.#failWith("next-out-of-range", chain, index, entry, text);
  }

  #failLength(chain: Chain, index: number, length: number): Outcome {
    const text = `an indirect table of ${length} bytes: it has to be a multiple of 16, at most ${MOST_INDIRECT_ENTRIES} entries`;
    return this.#failWith("indirect-length", chain, index, NOT_IN_TABLE, text);
  }

  #failFault(chain: Chain, index: number, entry: number, what: string): Outcome {
    const text = `its ${what} cannot be reached: ${this.#space.fault?.message ?? "no reason given"}`;
    return this.#failWith("buffer-unreachable", chain, index, entry, text);
  }

  #failWith(code: QueueFailureCode, chain: Chain, index: number, entry: number, text: string): Outcome {
    const place = entry === NOT_IN_TABLE ? "" : `entry ${entry} of the indirect table of `;
    this.problem = { code, text: `${place}descriptor ${index} of the chain at head ${chain.head}: ${text}` };
    return Outcome.FAULT;
  }
}
