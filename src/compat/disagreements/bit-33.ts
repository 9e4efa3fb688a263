/**
 * Disagreements about bit 33, ACCESS_PLATFORM: "use the DMA API" to a guest, "translate" to vhost. Each is asked of
 * cells of the matrix, the cell in question first and beside it those that show what makes the difference.
 */

import type { Disagreement } from "./disagreement.js";
import { askCells, type Line, lineOf, play, vmmWith } from "./play.js";

export const CROSVM_PASSES_33 = askCells(
  {
    id: "crosvm-passes-33",
    title:
      "crosvm of July 2022 passes bit 33 on, and a Linux that has learned to translate looks for rings in an empty IOTLB",
    question:
      "crosvm offers bit 33 so that a protected guest bounces through its shared pool, and tells vhost what both have. What becomes of it on a kernel that takes the bit for an IOTLB?",
    sources: [
      "Will Deacon, kvm list, August 2022 (spinics.net kvm/msg285557)",
      "Linux e13a6915a03f, drivers/vhost/vsock.c",
      "crosvm 4e7d00be2, devices/src/virtio/vhost/worker.rs",
    ],
    reading: "Linux 5.10 is fine; from 5.15 on VHOST_VSOCK_SET_RUNNING fails with EFAULT.",
    expected: "fails-to-start",
    lesson:
      "A bit that asks the guest to use the DMA API is none that asks the device to translate. Masking it before vhost mends crosvm; a device that decides translation apart from the bit needs no mending.",
  },
  "restricted-dma/crosvm-2022-07/linux-5.15",
  "restricted-dma/crosvm-2022-07/linux-5.10",
  "restricted-dma/crosvm-2022-07/linux-6.12",
  "restricted-dma/crosvm-2022-08/linux-5.15",
);

export const CROSVM_VHOST_USER_PASSES_33 = askCells(
  {
    id: "crosvm-vhost-user-passes-33",
    title: "crosvm's vhost-user front-end tells a back-end of bit 33 and never sends an IOTLB message",
    question:
      "The mask of August 2022 is in crosvm's code for kernel devices. Its vhost-user front-end hands the acknowledgement back as it is. What does a back-end do that offers bit 33 and means an IOTLB by it?",
    sources: [
      "crosvm f1e797a68, devices/src/virtio/vhost_user_frontend/mod.rs",
      "crosvm f1e797a68, devices/src/virtio/vhost_user_backend/vsock.rs",
    ],
    reading:
      "The incident of 2022 again: crosvm's own vsock back-end programs the kernel, and VHOST_VSOCK_SET_RUNNING fails with EFAULT.",
    expected: "fails-to-start",
    lesson:
      "The same mistake ends otherwise than in 2022: the kernel's EFAULT is met inside the back-end, whose process ends with it, and a back-end that asks for the missing mapping ends the VMM instead. Only a back-end that offers the bit and does not take it for a wish to translate works.",
  },
  "restricted-dma/crosvm-vhost-user/crosvm-backend",
  "restricted-dma/crosvm-vhost-user/dpdk-like",
  "restricted-dma/crosvm-vhost-user/bit33-on",
  "restricted-dma/crosvm-vhost-user/bit33-auto",
);

export const CROSVM_VHOST_USER_HIDES_33 = askCells(
  {
    id: "crosvm-vhost-user-hides-33",
    title: "A back-end without bit 33 takes the bit from crosvm's guest, who then hands out private memory",
    question:
      "crosvm's vhost-user front-end offers its guest what the back-end offers. A back-end that equates bit 33 with an IOTLB, and has none, does not offer it. Where do the guest's rings and buffers lie then?",
    sources: [
      "crosvm f1e797a68, devices/src/virtio/vhost_user_frontend/mod.rs",
      "Linux 7.2, drivers/virtio/virtio_ring.c, vring_use_map_api",
    ],
    reading:
      "The guest never sees the bit, goes around the DMA API and its shared pool, and gives the device addresses of private memory.",
    expected: "faults",
    lesson:
      "The mirror image of the case before. With this front-end a back-end has to offer bit 33 whether or not it translates: the offer is for the guest.",
  },
  "restricted-dma/crosvm-vhost-user/vhost-device-vsock",
  "protected/crosvm-vhost-user/vhost-device-vsock",
  "restricted-dma/crosvm-vhost-user/bit33-off",
);

export const CROSVM_WITHOUT_VIOMMU_GUARD: Disagreement = {
  id: "crosvm-without-viommu-guard",
  title: "crosvm has dropped the guard that refused a kernel vhost device behind its vIOMMU",
  question:
    "Commit 4e7d00be2 refused a vhost device behind the vIOMMU and masked bit 33 otherwise; 40114fd26 removed the refusal with other code. Is a device that needs translation now started without?",
  sources: [
    "crosvm 4e7d00be2, devices/src/virtio/vhost/worker.rs (VhostIotlbUnsupported)",
    "crosvm 40114fd26",
    "crosvm f1e797a68, devices/src/virtio/virtio_device.rs, supports_iommu",
  ],
  reading: "Bit 33 is stripped in silence even where translation is needed.",
  expected: "exposes",
  moot: "no-such-cell",
  lesson:
    "No vsock device of crosvm can be put behind its vIOMMU (`supports_iommu` is false), so the guard could never fire and nothing is lost with it. Even behind one crosvm would look for the rings itself, in guest memory, and not find them: no exposure, but no device either.",
  async run() {
    const stated = await askCells(this, "viommu-strict/crosvm-2023-09/linux-6.12").run();
    const now = await play(behindViommu("crosvm-2023-09"));
    const guarded = await play(behindViommu("crosvm-2022-08"));
    return {
      outcome: stated.outcome,
      facts: [
        ...stated.facts,
        `Were crosvm to put the device behind its vIOMMU all the same, and so to offer bit 33, the end would be ${now.cell.verdict}: ${now.cell.reason}.`,
        `With the guard of August 2022 it would be ${guarded.cell.verdict}: ${guarded.cell.reason}.`,
      ],
      cells: [...stated.cells, now.cell, guarded.cell],
    };
  },
};

/** crosvm as it would be if its vsock device could sit behind the vIOMMU; such a device is offered with bit 33. */
function behindViommu(name: string): Line {
  const line = lineOf(`viommu-strict/${name}/linux-6.12`);
  const { machine, offer } = line.vmm;
  const changes = { machine: { ...machine, viommu: true }, offer: { ...offer, bit33: "by-option" as const } };
  return { ...line, vmm: vmmWith(line.vmm, "viommu", changes) };
}

export const QEMU_TELLS_33_UNOFFERED = askCells(
  {
    id: "qemu-tells-33-unoffered",
    title: "QEMU with a vIOMMU tells a vhost-user-vsock back-end of bit 33 that it never offered",
    question:
      "Bit 33 is missing from the list of bits that vhost-user-vsock takes from the back-end, so the guest gets it by `iommu_platform=on` alone. What does a back-end without the bit do when it arrives?",
    sources: [
      "QEMU 10.0, hw/virtio/vhost-user-vsock.c, user_feature_bits",
      "QEMU 10.0, hw/virtio/vhost.c, vhost_dev_set_features",
      "rust-vmm/vhost#312",
    ],
    reading:
      "rust-vmm's set_features answers InvalidParam; the device is lost as soon as the guest's driver starts.",
    expected: "fails-to-start",
    lesson:
      "A back-end has to expect bit 33 from QEMU whatever it offered. One that ends the session at an unoffered bit is lost with every vIOMMU, an identity one (`iommu=pt`) too: vhost-device-vsock does not die of it, as was thought, and serves the next front-end, but QEMU does not connect a second time. Without a vIOMMU QEMU strips the bit and all is well.",
  },
  "viommu-strict/qemu-7.2/vhost-device-vsock",
  "viommu-strict/qemu-10.0/vhost-device-vsock",
  "passthrough/qemu-10.0/vhost-device-vsock",
  "restricted-dma/qemu-10.0/vhost-device-vsock",
  "viommu-strict/qemu-10.0/bit33-auto",
);

export const QEMU_WANTS_A_CHANNEL_WITH_33 = askCells(
  {
    id: "qemu-wants-a-channel-with-33",
    title: "QEMU refuses a back-end that offers bit 33 without a channel for misses, vIOMMU or not",
    question:
      "To QEMU a back-end that offers bit 33 is one with an IOTLB, which needs BACKEND_REQ and REPLY_ACK. What becomes of one that offers the bit for its guest's sake only?",
    sources: ["QEMU 10.0, hw/virtio/vhost-user.c, vhost_user_backend_init"],
    reading: "Initialization fails, even with no vIOMMU anywhere.",
    expected: "refused",
    lesson:
      "To QEMU, offering the bit is a claim to an IOTLB. A back-end that offers it for a crosvm guest's sake has to offer BACKEND_REQ and REPLY_ACK as well, even if it never asks anything.",
  },
  "plain/qemu-10.0/crosvm-backend",
  "plain/qemu-7.2/crosvm-backend",
  "restricted-dma/qemu-10.0/crosvm-backend",
  "plain/qemu-10.0/bit33-off",
);

export const CONFIDENTIAL_GUEST_REQUIRES_33 = askCells(
  {
    id: "confidential-guest-requires-33",
    title: "A confidential guest refuses a device that does not offer bit 33",
    question:
      "Linux in a confidential VM wants VERSION_1 and bit 33 from every virtio device. Who is left without a device because of that, and who is not because its VMM adds the bit?",
    sources: ["Linux 6.12, drivers/virtio/virtio.c, virtio_features_ok"],
    reading: "The driver gives up with -ENODEV: the device must provide VIRTIO_F_ACCESS_PLATFORM.",
    expected: "refused",
    lesson:
      "A clean refusal, and the best that the guest can do. Who offers the bit decides: QEMU and crosvm's kernel path add it themselves, crosvm's vhost-user front-end waits for the back-end.",
  },
  "protected/crosvm-vhost-user/vhost-device-vsock",
  "protected/qemu-10.0/vhost-device-vsock",
  "protected/crosvm-2022-08/linux-6.12",
  "protected/crosvm-vhost-user/bit33-auto",
);
