/**
 * Packets in the guest's memory: slots to receive into and slots to send from, each cut into buffers for the device
 * as the framing says. Owns the memory; must not know connections.
 */
import { PAGE_BYTES, roundUp } from "../linux/mapping.js";
import { Access } from "../memory/address.js";
import { HEADER_BYTES } from "../vsock/header.js";
import { DmaBuffer } from "./dma.js";
import type { GuestRam, RamBlock } from "./guest-ram.js";

/** What one packet carries at most (VIRTIO_VSOCK_MAX_PKT_BUF_SIZE). */
export const LARGEST_PAYLOAD_BYTES = 64 * 1024;

/** Receive buffers start at a cache line each, so that no two of them touch. */
const PIECE_ALIGNMENT = 64;

/** A packet to send: header and payload lie one behind the other, as in a Linux skb. */
export class TransmitSlot {
  /** Shows the header. */
  readonly header: DataView;
  /** Where the payload goes. */
  readonly payload: Uint8Array;
  /** The payload's length as it was sent. */
  payloadBytes = 0;
  readonly #buffers: DmaBuffer[] = [];
  readonly #gpa: number;
  readonly #host: number;

  constructor(
    ram: GuestRam,
    gpa: number,
    /** The most payload it holds. */
    readonly capacity: number,
  ) {
    this.#gpa = gpa;
    this.#host = ram.hostOf(gpa);
    const bytes = ram.view(gpa, HEADER_BYTES + capacity);
    this.header = new DataView(bytes.buffer, 0, HEADER_BYTES);
    this.payload = bytes.subarray(HEADER_BYTES);
  }

  /** The packet as buffers of these sizes. */
  cut(sizes: readonly number[]): readonly DmaBuffer[] {
    const buffers = this.#buffers;
    buffers.length = Math.min(buffers.length, sizes.length);
    let offset = 0;
    for (let i = 0; i < sizes.length; i++) {
      buffers[i] ??= new DmaBuffer(0, 0, 0, Access.READ);
      buffers[i].gpa = this.#gpa + offset;
      buffers[i].host = this.#host + offset;
      buffers[i].bytes = sizes[i];
      offset += sizes[i];
    }
    return buffers;
  }
}

/** A place for one packet to arrive. */
export class ReceiveSlot {
  readonly buffers: readonly DmaBuffer[];
  readonly capacity: number;
  readonly #bytes: Uint8Array;
  /** Where each buffer starts in `#bytes`. */
  readonly #offsets: readonly number[];
  readonly #data: DataView;
  readonly #headerCopy = new DataView(new ArrayBuffer(HEADER_BYTES));

  constructor(ram: GuestRam, gpa: number, sizes: readonly number[]) {
    this.#offsets = receiveOffsets(sizes).offsets;
    this.#bytes = ram.view(gpa, receiveOffsets(sizes).totalBytes);
    this.#data = new DataView(this.#bytes.buffer);
    this.buffers = sizes.map((bytes, i) => {
      const at = gpa + this.#offsets[i];
      return new DmaBuffer(at, ram.hostOf(at), bytes, Access.WRITE);
    });
    this.capacity = sizes.reduce((sum, size) => sum + size, 0);
  }

  /** A view that starts with the packet's header, wherever that was cut. */
  header(): DataView {
    if (this.buffers[0].bytes >= HEADER_BYTES) return this.#data;
    let at = 0;
    this.payload(0, HEADER_BYTES, (piece) => {
      new Uint8Array(this.#headerCopy.buffer).set(piece, at);
      at += piece.length;
    });
    return this.#headerCopy;
  }

  /** Passes `length` bytes of the packet from byte `from` on, piece by piece; valid during the call only. */
  payload(from: number, length: number, take: (piece: Uint8Array) => void): void {
    let packetAt = 0;
    const end = from + length;
    for (let i = 0; i < this.buffers.length && packetAt < end; i++) {
      const { bytes } = this.buffers[i];
      const first = Math.max(from, packetAt);
      const last = Math.min(end, packetAt + bytes);
      if (first < last) {
        const offset = this.#offsets[i] + first - packetAt;
        take(this.#bytes.subarray(offset, offset + last - first));
      }
      packetAt += bytes;
    }
  }
}

/** Each buffer on cache lines of its own: a device that writes beyond one is noticed. */
function receiveOffsets(sizes: readonly number[]): { offsets: number[]; totalBytes: number } {
  let totalBytes = 0;
  const offsets = sizes.map((bytes) => {
    const offset = totalBytes;
    totalBytes = roundUp(offset + bytes, PIECE_ALIGNMENT);
    return offset;
  });
  return { offsets, totalBytes };
}

/** Receive slots in one block of memory, each on pages of its own if it is larger than half a page. */
export function makeReceiveSlots(
  ram: GuestRam,
  count: number,
  sizes: readonly number[],
): { slots: ReceiveSlot[]; block: RamBlock } {
  const { totalBytes } = receiveOffsets(sizes);
  const stride = totalBytes > PAGE_BYTES / 2 ? roundUp(totalBytes, PAGE_BYTES) : totalBytes;
  const block = ram.allocate(count * stride);
  const slots = Array.from({ length: count }, (_, i) => new ReceiveSlot(ram, block.gpa + i * stride, sizes));
  return { slots, block };
}

/** Transmit slots, made when first needed, of two sizes: control packets need no payload. */
export class TransmitSlots {
  readonly #ram: GuestRam;
  readonly #mostLarge: number;
  readonly #small: TransmitSlot[] = [];
  readonly #large: TransmitSlot[] = [];
  readonly #blocks: RamBlock[] = [];
  #largeMade = 0;

  constructor(ram: GuestRam, smallCount: number, mostLarge: number) {
    this.#ram = ram;
    this.#mostLarge = mostLarge;
    const block = ram.allocate(smallCount * PIECE_ALIGNMENT);
    this.#blocks.push(block);
    for (let i = 0; i < smallCount; i++)
      this.#small.push(new TransmitSlot(ram, block.gpa + i * PIECE_ALIGNMENT, 0));
  }

  takeSmall(): TransmitSlot | undefined {
    return this.#small.pop();
  }

  takeLarge(): TransmitSlot | undefined {
    const slot = this.#large.pop();
    if (slot !== undefined || this.#largeMade === this.#mostLarge) return slot;
    this.#largeMade++;
    const block = this.#ram.allocate(HEADER_BYTES + LARGEST_PAYLOAD_BYTES);
    this.#blocks.push(block);
    return new TransmitSlot(this.#ram, block.gpa, LARGEST_PAYLOAD_BYTES);
  }

  give(slot: TransmitSlot): void {
    (slot.capacity === 0 ? this.#small : this.#large).push(slot);
  }

  release(): void {
    for (const block of this.#blocks) this.#ram.free(block);
  }
}
