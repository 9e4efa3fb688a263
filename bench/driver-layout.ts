/** How a measuring driver lays out its buffers, and which DMA it gets. */
import { PAGE_BYTES } from "../src/linux/mapping.js";
import { IOTLB_ENTRIES } from "../src/memory/iotlb.js";
import type { Addressing } from "./commands.js";
import { Buffers, DirectDma, type DriverDma, type Need } from "./driver-dma.js";
import { PreparedRing } from "./prepared-ring.js";
import { MappedDma, StrictDma } from "./translation-dma.js";

/** VIRTIO_VSOCK_MAX_PKT_BUF_SIZE. */
export const LARGEST_PAYLOAD_BYTES = 64 * 1024;

/** Headers do not share cache lines. */
const HEADER_STRIDE = 64;
/** Nor pages, where each is mapped by itself; and they do not all fall into the same lines of a cache. */
const MAPPED_HEADER_STRIDE = PAGE_BYTES + 64;

export interface DriverLayout extends Need {
  /** Packets with data that the transmit ring can hold, two descriptors each, and packets without, one each. */
  readonly dataSlots: number;
  readonly controlSlots: number;
  readonly headerStride: number;
}

export function layoutFor(queueSize: number, addressing: Addressing | undefined): DriverLayout {
  const controlSlots = queueSize >> 3;
  const headerStride = addressing === undefined ? HEADER_STRIDE : MAPPED_HEADER_STRIDE;
  const ringBytes = 2 * Math.ceil(PreparedRing.bytesFor(queueSize) / PAGE_BYTES) * PAGE_BYTES;
  const bytesWith = (dataSlots: number): number =>
    ringBytes +
    Buffers.bytesFor(queueSize, PAGE_BYTES) +
    Buffers.bytesFor(dataSlots + controlSlots, headerStride) +
    Buffers.bytesFor(dataSlots, LARGEST_PAYLOAD_BYTES);
  let dataSlots = (queueSize - controlSlots) >> 1;
  // So many that each page can have an entry of its own in the device's IOTLB.
  while (addressing !== undefined && bytesWith(dataSlots) > IOTLB_ENTRIES * PAGE_BYTES) dataSlots -= 8;
  return { dataSlots, controlSlots, headerStride, bytes: bytesWith(dataSlots), wholeBytes: ringBytes };
}

export function openDma(socketPath: string, need: Need, addressing: Addressing | undefined): DriverDma {
  switch (addressing?.kind) {
    case undefined:
    case "guest-physical":
      return new DirectDma(socketPath, need);
    case "mapped":
      return new MappedDma(socketPath, need, addressing.entries);
    case "strict":
      return new StrictDma(socketPath, need, addressing.isPipelining);
  }
}
