/**
 * What the demo shows: each line-up is a guest, a VMM, and a sentence on why it is there.
 * Must not know how it is run (demo.ts) or printed (report.ts).
 */

import type { DmaKind } from "../../guest/dma.js";

export interface LineUp {
  readonly cid: number;
  readonly title: string;
  /** What there is to see, for somebody who has never heard of any of it. */
  readonly story: string;
  readonly kind: DmaKind;
  /** Which front-end profile plays the VMM; a name, since it crosses to another process. */
  readonly vmm: "qemu" | "crosvm";
  /** Behind a strict vIOMMU each page is asked for and taken back, so less shows as much. */
  readonly share: number;
}

export const LINE_UPS: readonly LineUp[] = [
  {
    cid: 3,
    title: "a plain guest",
    story:
      "It hands out physical addresses and knows nothing of the DMA API. The VMM plays QEMU without " +
      "iommu_platform: it does not offer bit 33.",
    kind: "direct",
    vmm: "qemu",
    share: 1,
  },
  {
    cid: 4,
    title: "a guest behind a vIOMMU",
    story:
      "Each buffer gets an I/O virtual address for one use. The VMM plays QEMU with iommu_platform=on: it " +
      "answers the device's questions about addresses, and takes each mapping back as soon as the guest does.",
    kind: "viommu",
    vmm: "qemu",
    share: 1 / 8,
  },
  {
    cid: 5,
    title: "a guest with restricted DMA",
    story:
      "The device may touch one shared pool and nothing else, so buffers are copied in and out; bit 33 is what " +
      "makes the guest do so. The VMM plays QEMU with iommu_platform=on and no vIOMMU: it offers the bit to the " +
      "guest and masks it towards the device.",
    kind: "restricted",
    vmm: "qemu",
    share: 1,
  },
  {
    cid: 6,
    title: "the incident of August 2022",
    story:
      "A protected guest under a VMM like crosvm, which passes bit 33 on and never sends an IOTLB message. A " +
      'device that takes the bit for "translate every address" looks them up in an empty IOTLB and fails to ' +
      "start, as Linux 5.15 did. Here the bit says only that the guest uses the DMA API.",
    kind: "protected",
    vmm: "crosvm",
    share: 1,
  },
];
