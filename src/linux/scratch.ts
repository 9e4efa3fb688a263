/**
 * Scratch memory for arguments that the kernel reads or writes: it has an address, it does not move, and it lives
 * as long as the thread. One page holds the small structs of set-up calls; hot paths have a `Scratch` of their own.
 */
import { mapAnonymous, PAGE_BYTES, roundUp, view } from "./mapping.js";

/** A block of memory with an address for the kernel and views for JavaScript. */
export class Scratch {
  /** Host address of the first byte. */
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly u32: Uint32Array;
  readonly data: DataView;

  constructor(readonly length: number) {
    const mapped = roundUp(length, PAGE_BYTES);
    this.address = mapAnonymous(mapped);
    const buffer = view(this.address, mapped);
    this.bytes = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.data = new DataView(buffer);
  }
}

/** Shared scratch for set-up calls; its content is valid only until the next call that uses it. */
export const setupScratch = new Scratch(PAGE_BYTES);
