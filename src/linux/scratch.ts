/**
 * Scratch memory for arguments that the kernel reads or writes: it has an address, it does not move, and it lives
 * as long as the thread, unless its owner gives it back for the next of its length. One page holds the small structs
 * of set-up calls; hot paths have a `Scratch` of their own.
 */
import { mapAnonymous, PAGE_BYTES, roundUp, view } from "./mapping.js";

/** Given back, by length in whole pages. Their views stay with them, since a range with a view is never unmapped. */
const idle = new Map<number, { readonly address: number; readonly buffer: ArrayBuffer }[]>();

/** A block of memory with an address for the kernel and views for JavaScript. */
export class Scratch {
  /** Host address of the first byte. */
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly u32: Uint32Array;
  readonly data: DataView;
  #released = false;

  constructor(readonly length: number) {
    const mapped = roundUp(length, PAGE_BYTES);
    const used = idle.get(mapped)?.pop();
    this.address = used?.address ?? mapAnonymous(mapped);
    const buffer = used?.buffer ?? view(this.address, mapped);
    this.bytes = new Uint8Array(buffer);
    if (used !== undefined) this.bytes.fill(0);
    this.u32 = new Uint32Array(buffer);
    this.data = new DataView(buffer);
  }

  /** Lets the next `Scratch` of this length have the memory. Nothing may use this one any more. Idempotent. */
  release(): void {
    const { address, bytes } = this;
    if (this.#released) return;
    this.#released = true;
    const blocks = idle.get(bytes.length);
    const block = { address, buffer: bytes.buffer as ArrayBuffer };
    if (blocks === undefined) idle.set(bytes.length, [block]);
    else blocks.push(block);
  }
}

/** Shared scratch for set-up calls; its content is valid only until the next call that uses it. */
export const setupScratch = new Scratch(PAGE_BYTES);
