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

/** 2.7.5.2: a driver must not make a chain longer than this in total. */
const MOST_CHAIN_BYTES = 2 ** 32;

/**
 * 2.7.5.3.1 forbids the driver an indirect chain longer than the queue size. Linux drivers with many segments have
 * not always kept to it, so the limit is our choice: the largest queue that the specification knows.
 */
export const MOST_INDIRECT_ENTRIES = MOST_QUEUE_SIZE;

export interface ChainProblem {
  readonly code: QueueFailureCode;
  /** The descriptor, and what is wrong with it. */
  readonly text: string;
}

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
      if (chain.descriptorCount === this.#size)
        return this.#fail("chain-loops", chain, index, "", `the chain is longer than the queue`);
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
      const found = this.#addBuffer(chain, low, high, length, flagsAndNext, index, -1);
      if (found === Outcome.FAULT) return found;
      if (found === Outcome.MISS) outcome = found;
      if ((flagsAndNext & DescFlag.NEXT) === 0) return outcome;
      const next = flagsAndNext >>> 16;
      if (next >= this.#size)
        return this.#fail("next-out-of-range", chain, index, "", `next ${next} points outside of the queue`);
      index = next;
    }
  }

  /** Follows the indirect table that descriptor `owner` refers to. The WRITE flag of `owner` means nothing (2.7.5.3.2). */
  #walkTable(owner: number, low: number, high: number, length: number, flags: number, chain: Chain): Outcome {
    const problem = this.#tableProblem(length, flags);
    if (problem !== undefined) return this.#fail(problem.code, chain, owner, "", problem.text);
    const table = this.#table;
    const opened = table.open(this.#space, low, high, length);
    if (opened === Outcome.FAULT)
      return this.#fail("buffer-unreachable", chain, owner, "", this.#faultText("its indirect table"));
    if (opened === Outcome.MISS) return opened;
    const entries = length / DESC_BYTES;
    let outcome: Outcome = Outcome.OK;
    let index = 0;
    for (let walked = 0; ; walked++) {
      if (walked === entries)
        return this.#fail("chain-loops", chain, owner, `entry ${index}`, `the indirect chain loops`);
      chain.descriptorCount++;
      const at = table.locate(index);
      const data = table.data;
      const entryLow = data.getUint32(at, true);
      const entryHigh = data.getUint32(at + 4, true);
      const entryLength = data.getUint32(at + DESC.len.offset, true);
      const flagsAndNext = data.getUint32(at + DESC.flags.offset, true);
      if ((flagsAndNext & DescFlag.INDIRECT) !== 0)
        return this.#fail("indirect-nested", chain, owner, `entry ${index}`, `INDIRECT inside a table`);
      const found = this.#addBuffer(chain, entryLow, entryHigh, entryLength, flagsAndNext, owner, index);
      if (found === Outcome.FAULT) return found;
      if (found === Outcome.MISS) outcome = found;
      if ((flagsAndNext & DescFlag.NEXT) === 0) return outcome;
      const next = flagsAndNext >>> 16;
      if (next >= entries)
        return this.#fail(
          "next-out-of-range",
          chain,
          owner,
          `entry ${index}`,
          `next ${next} points outside of the table's ${entries} entries`,
        );
      index = next;
    }
  }

  #tableProblem(length: number, flags: number): { code: QueueFailureCode; text: string } | undefined {
    if (!this.#indirect)
      return { code: "indirect-not-negotiated", text: "INDIRECT without VIRTIO_F_INDIRECT_DESC" };
    if ((flags & DescFlag.NEXT) !== 0)
      return { code: "indirect-with-next", text: "INDIRECT and NEXT together (2.7.5.3.1)" };
    if (length === 0 || length % DESC_BYTES !== 0 || length / DESC_BYTES > MOST_INDIRECT_ENTRIES)
      return {
        code: "indirect-length",
        text: `an indirect table of ${length} bytes: a multiple of 16, at most ${MOST_INDIRECT_ENTRIES} entries`,
      };
    return undefined;
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
    if (this.#chainBytes > MOST_CHAIN_BYTES)
      return this.#fail("chain-too-large", chain, index, entryName(entry), `more than 2^32 bytes (2.7.5.2)`);
    if (writable) this.#sawWritable = true;
    else if (this.#sawWritable)
      return this.#fail(
        "readable-after-writable",
        chain,
        index,
        entryName(entry),
        `readable after a writable one (2.7.4.2)`,
      );
    if (length === 0) return Outcome.OK;
    const found = writable
      ? this.#space.translate(low, high, length, Access.WRITE, chain.writable)
      : this.#space.translate(low, high, length, Access.READ, chain.readable);
    if (found === Outcome.FAULT)
      return this.#fail(
        "buffer-unreachable",
        chain,
        index,
        entryName(entry),
        this.#faultText(`its ${writable ? "writable" : "readable"} buffer`),
      );
    return found;
  }

  #faultText(what: string): string {
    return `${what} cannot be reached: ${this.#space.fault?.message ?? "no reason given"}`;
  }

  #fail(code: QueueFailureCode, chain: Chain, index: number, entry: string, text: string): Outcome {
    const place = entry === "" ? "" : `${entry} of the indirect table of `;
    this.problem = { code, text: `${place}descriptor ${index} of the chain at head ${chain.head}: ${text}` };
    return Outcome.FAULT;
  }
}

function entryName(entry: number): string {
  return entry < 0 ? "" : `entry ${entry}`;
}
