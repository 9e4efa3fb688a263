/**
 * JavaScript's eyes on mapped guest memory: for any host address inside a region, a DataView and a Uint32Array that
 * show it. Regions can be larger than the longest view, so there are windows; the one used last is kept at hand.
 * `locate` allocates nothing once a window exists.
 */
import { LONGEST_VIEW_BYTES, view } from "../linux/mapping.js";
import type { Region } from "./region.js";

/**
 * V8 counts each view as external memory, and answers a new gigabyte of that with one full collection. Measured on
 * Node 20 with a small heap: 2-3 ms for a window of 1 GiB, 0.5 ms for one of 64 MiB (8 ms a GiB), and nothing
 * afterwards. So windows are as large as they may be, and made when first touched.
 */
export const WINDOW_BYTES = LONGEST_VIEW_BYTES;

/** How much further than its window a view goes: what starts inside a window and is no longer than this is in it. */
export const OVERLAP_BYTES = 4096;

interface Window {
  readonly region: Region;
  /** Host address of the first byte. */
  readonly start: number;
  /** How many addresses from `start` on are looked up here; the view is longer by the overlap. */
  readonly length: number;
  readonly data: DataView;
  readonly words: Uint32Array;
}

const nothing = new ArrayBuffer(0);

/** The host address that is being located. */
const place = new Float64Array(1);

export class HostViews {
  /** Shows the window of the latest `locate`. */
  data: DataView = new DataView(nothing);
  /** The same window as words: `words[offset >>> 2]` if `offset` is a multiple of 4. */
  words: Uint32Array = new Uint32Array(nothing);
  /** Where in `data` the located address is, in bytes. */
  offset = 0;

  readonly #regions: readonly Region[];
  /** All windows that were touched, by their start. A guest may have hundreds of regions, and buffers in all of them. */
  #windows: Window[] = [];
  #start = 0;
  #length = 0;

  /** `regions` is the live list of the memory table. */
  constructor(regions: readonly Region[]) {
    this.#regions = regions;
  }

  /**
   * Points `data`, `words` and `offset` at a host address that the caller got from a translation which is still valid.
   * At least `OVERLAP_BYTES` follow in `data`, unless the region ends before. A segment can be joined from two regions
   * that lie side by side on the host: who reads further than `available` locates again for the rest.
   * So short that V8 always inlines it (`segments.ts`).
   */
  locate(host: number): void {
    place[0] = host;
    this.locatePlaced();
  }

  private locatePlaced(): void {
    const offset = place[0] - this.#start;
    if (offset >= 0 && offset < this.#length) {
      this.offset = offset;
      return;
    }
    this.#change();
  }

  /** How many bytes `data` shows from `offset` on. */
  get available(): number {
    return this.data.byteLength - this.offset;
  }

  /** A view of its own over a range that a translation covered, for an area that is read all the time. */
  viewOf(host: number, length: number): ArrayBuffer {
    return view(host, length);
  }

  /** Lets go of a region's windows. What still holds one of them reads zeros. */
  forget(region: Region): void {
    this.#windows = this.#windows.filter((window) => window.region !== region);
    this.data = new DataView(nothing);
    this.words = new Uint32Array(nothing);
    this.#length = 0;
  }

  /** Turns to the window of `place[0]`. */
  #change(): void {
    const index = this.#firstStartingAfter();
    const before = index === 0 ? undefined : this.#windows[index - 1];
    const isInside = before !== undefined && place[0] < before.start + before.length;
    const window = isInside ? before : this.#makeWindow(place[0], index);
    this.#start = window.start;
    this.#length = window.length;
    this.data = window.data;
    this.words = window.words;
    this.offset = place[0] - window.start;
  }

  #firstStartingAfter(): number {
    const windows = this.#windows;
    let low = 0;
    let high = windows.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (windows[middle].start <= place[0]) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** `index`: its place among the others. */
  #makeWindow(host: number, index: number): Window {
    const region = this.#regions.find(({ host: start, size }) => host >= start && host < start + size);
    if (region === undefined) {
      throw new Error(`host address 0x${host.toString(16)} is not guest memory: it was not translated`);
    }
    const first = Math.floor((host - region.mappingAddress) / WINDOW_BYTES) * WINDOW_BYTES;
    const start = region.mappingAddress + first;
    const length = Math.min(WINDOW_BYTES, region.mappingLength - first);
    const buffer = view(start, Math.min(WINDOW_BYTES + OVERLAP_BYTES, region.mappingLength - first));
    const window = { region, start, length, data: new DataView(buffer), words: new Uint32Array(buffer) };
    this.#windows.splice(index, 0, window);
    return window;
  }
}
