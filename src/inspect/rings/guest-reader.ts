/**
 * Copies bytes out of guest memory, in whatever address space buffers have at the moment. Everything is copied before it
 * is looked at: the guest may be changing it. Must not know what the bytes are.
 */
import { Access, Outcome } from "../../memory/address.js";
import type { AddressSpace } from "../../memory/address-space.js";
import { SegmentList } from "../../memory/segments.js";
import type { HostReader } from "../../virtqueue/device-queue.js";

export class GuestReader {
  /** Of the addresses in descriptors. */
  space: AddressSpace;
  readonly #views: HostReader;
  readonly #segments = new SegmentList(8);

  constructor(views: HostReader, space: AddressSpace) {
    this.#views = views;
    this.space = space;
  }

  /** Fills `into` from the address on; false if not all of it can be reached. */
  read(low: number, high: number, into: Uint8Array): boolean {
    const segments = this.#segments;
    segments.clear();
    if (this.space.translate(low, high, into.byteLength, Access.READ, segments) !== Outcome.OK) return false;
    let at = 0;
    for (let index = 0; index < segments.count; index++)
      at = this.#copy(segments.address[index], segments.length[index], into, at);
    return true;
  }

  canReach(low: number, high: number, length: number): boolean {
    this.#segments.clear();
    return this.space.translate(low, high, length, Access.READ, this.#segments) === Outcome.OK;
  }

  #copy(host: number, length: number, into: Uint8Array, start: number): number {
    const views = this.#views;
    let at = start;
    for (let copied = 0; copied < length; ) {
      views.locate(host + copied);
      const { data, offset } = views;
      const taken = Math.min(length - copied, data.byteLength - offset);
      into.set(new Uint8Array(data.buffer, data.byteOffset + offset, taken), at);
      at += taken;
      copied += taken;
    }
    return at;
  }
}
