/**
 * The guest memory that a measuring driver uses, as one range: in the order in which the device is told of it, which
 * need not be the order in which it lies there. Cut into pieces that lie in shuffled order, no piece follows its
 * neighbour in memory, and so each has to be translated by itself. Must not know what is kept in it.
 */
import type { GuestRam } from "../src/guest/guest-ram.js";
import { PAGE_BYTES, view } from "../src/linux/mapping.js";

/** A part of the arena that is contiguous in guest-physical memory. */
export interface Piece {
  /** Where it begins in the arena. */
  readonly offset: number;
  readonly bytes: number;
  readonly gpa: number;
}

export class Arena {
  readonly pieces: readonly Piece[];
  /** All of it as the driver sees it, in the order of memory. */
  readonly words: Uint32Array;
  readonly #block: { readonly gpa: number; readonly host: number; readonly bytes: number };
  /** Where each page of the arena lies in the block. */
  readonly #placeOfPage: Float64Array;
  #used = 0;

  /** `wholeBytes` of the beginning stay in one piece. `pieces`: how many; at most one a page. */
  constructor(ram: GuestRam, bytes: number, wholeBytes: number, pieces: number) {
    this.#block = ram.allocate(bytes);
    const { gpa, host } = this.#block;
    this.words = new Uint32Array(view(host, this.#block.bytes)).fill(0);
    const sizes = cut(this.#block.bytes / PAGE_BYTES, Math.ceil(wholeBytes / PAGE_BYTES), pieces);
    const offsets: number[] = [];
    let offset = 0;
    for (const pages of sizes) {
      offsets.push(offset);
      offset += pages * PAGE_BYTES;
    }
    this.#placeOfPage = new Float64Array(this.#block.bytes / PAGE_BYTES);
    const placed: Piece[] = new Array(sizes.length);
    let place = 0;
    for (const index of shuffled(sizes.length)) {
      placed[index] = { offset: offsets[index], bytes: sizes[index] * PAGE_BYTES, gpa: gpa + place };
      for (let page = 0; page < sizes[index]; page++) {
        this.#placeOfPage[offsets[index] / PAGE_BYTES + page] = place;
        place += PAGE_BYTES;
      }
    }
    this.pieces = placed;
  }

  get bytes(): number {
    return this.#block.bytes;
  }

  /** The offset of so many bytes, in whole pages. */
  allocate(bytes: number): number {
    const offset = this.#used;
    this.#used += Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
    if (this.#used > this.bytes) throw new Error(`the arena of ${this.bytes} bytes is too small`);
    return offset;
  }

  gpaOf(offset: number): number {
    return this.#block.gpa + this.#placeOf(offset);
  }

  hostOf(offset: number): number {
    return this.#block.host + this.#placeOf(offset);
  }

  /** The index in `words` of what lies at an offset. */
  wordOf(offset: number): number {
    return this.#placeOf(offset) >>> 2;
  }

  #placeOf(offset: number): number {
    return this.#placeOfPage[Math.floor(offset / PAGE_BYTES)] + (offset % PAGE_BYTES);
  }
}

/** How many pages each piece has: about the same, and the first one holds what must not be cut. */
function cut(pages: number, wholePages: number, pieces: number): number[] {
  const most = Math.max(1, pages - wholePages + 1);
  const count = Math.min(Math.max(1, pieces), most);
  if (count === 1) return [pages];
  const first = Math.max(wholePages, Math.floor(pages / count));
  const rest = pages - first;
  return [first, ...Array.from({ length: count - 1 }, (_, i) => share(rest, count - 1, i))];
}

/** The size of part `index` of `total`, divided into `parts` as evenly as whole numbers allow. */
function share(total: number, parts: number, index: number): number {
  return Math.floor(((index + 1) * total) / parts) - Math.floor((index * total) / parts);
}

/** The numbers below `count` in an order that is the same every time, and in which neighbours do not follow each other. */
function shuffled(count: number): number[] {
  const order = Array.from({ length: count }, (_, index) => index);
  // Numerical Recipes' linear congruential generator.
  let state = 1;
  for (let index = count - 1; index > 0; index--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((state / 2 ** 32) * (index + 1));
    [order[index], order[other]] = [order[other], order[index]];
  }
  return order;
}
