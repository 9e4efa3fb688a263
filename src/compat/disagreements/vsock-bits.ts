/** Disagreements about the bits of the vsock device type. */
import {
  describeFeatures,
  describeVerdict,
  F,
  has,
  judgeAcknowledged,
  mask,
  maskOf,
  VSOCK_F,
  virtioFeature,
} from "../../virtio/index.js";
import type { Disagreement } from "./disagreement.js";
import { deviceWith, guestKnowing, lineOf, offering, type Play, play } from "./play.js";
import { offered, offers, taken } from "./wording.js";

export const LIBKRUN_DGRAM: Disagreement = {
  id: "libkrun-dgram",
  title: "libkrun calls vsock bit 3 DGRAM, which no specification assigns",
  question:
    "Datagram sockets were proposed as vsock bit 2, which then became NO_IMPLIED_STREAM; libkrun took 3. Who is misled by a device that offers bit 3?",
  sources: [
    "libkrun 6ed74fac, src/devices/src/virtio/vsock/mod.rs",
    "VIRTIO 1.3, Socket Device, Feature bits",
    "Linux, net/vmw_vsock/virtio_transport.c",
  ],
  reading: "Only libkrun's own guests know the bit; to all others it does not exist.",
  expected: "only-its-own-guests-take-it",
  lesson:
    "A number taken without a specification harms nobody as long as guests take only what they know. It would the day VIRTIO assigns bit 3.",
  async run() {
    const { guest, vmm, device } = lineOf("plain/libkrun/vhost-device-vsock");
    const dgram = VSOCK_F.VSOCK_DGRAM;
    const claiming = deviceWith(device, "dgram", offering(maskOf(dgram)));
    const linux = await play({ guest, vmm, device: claiming });
    const own = await play({ guest: guestKnowing(guest, "dgram", mask(dgram)), vmm, device: claiming });
    const ours = judgeAcknowledged(mask(F.VERSION_1), maskOf(F.VERSION_1, dgram));
    const takes = [linux, own].map(({ words }) => has(words.acknowledgedByGuest, dgram));
    const record = virtioFeature(dgram, "vsock");
    return {
      outcome: takes[0] ? "linux-takes-it" : takes[1] ? "only-its-own-guests-take-it" : "nobody-takes-it",
      facts: [
        `Bit ${dgram} is ${record?.symbol ?? "unknown"} to libkrun and ${record?.nonstandard === true ? "unassigned" : "assigned"} in VIRTIO; bit ${VSOCK_F.VSOCK_NO_IMPLIED_STREAM}, its number in drafts, is ${virtioFeature(VSOCK_F.VSOCK_NO_IMPLIED_STREAM, "vsock")?.symbol}.`,
        `A device offers it through ${vmm.program}: it is ${offered(linux.words.offeredToGuest, dgram)} to the guest. Linux ${taken(linux.words.acknowledgedByGuest, dgram)}; a guest that knows it ${taken(own.words.acknowledgedByGuest, dgram)}.`,
        `This project's device offers neither; were it told all the same: ${ours.verdicts.map(describeVerdict).join("; ")}.`,
      ],
      cells: [linux.cell, own.cell],
    };
  },
};

export const GUEST_TAKES_NO_STREAM_BIT: Disagreement = {
  id: "guest-takes-no-stream-bit",
  title: "Linux guests never acknowledge the vsock bits STREAM and NO_IMPLIED_STREAM",
  question:
    "With SEQPACKET alone acknowledged, VIRTIO leaves it to the device whether there are stream sockets, too. Linux acknowledges no other bit. Does a device that offers all three serve its streams?",
  sources: [
    "Linux 7.2, net/vmw_vsock/virtio_transport.c, features",
    "VIRTIO 1.4, Socket Device, Feature bits",
  ],
  reading: "Bits 0 and 2 are never acknowledged, and a device has to serve streams all the same.",
  expected: "streams-work-unasked",
  lesson:
    "VIRTIO says MAY; for a Linux guest it has to be a yes. A device that reads the absence of STREAM as the absence of streams leaves every one of them without a socket.",
  async run() {
    const { guest, vmm, device } = lineOf("plain/crosvm-vhost-user/dpdk-like");
    const { VSOCK_STREAM, VSOCK_SEQPACKET, VSOCK_NO_IMPLIED_STREAM } = VSOCK_F;
    const all = maskOf(VSOCK_STREAM, VSOCK_SEQPACKET, VSOCK_NO_IMPLIED_STREAM);
    const { cell, words } = await play({
      guest,
      vmm,
      device: deviceWith(device, "all-vsock-bits", offering(all)),
    });
    const acknowledged = words.acknowledgedByGuest & all;
    const isUnasked = !has(acknowledged, VSOCK_STREAM) && !has(acknowledged, VSOCK_NO_IMPLIED_STREAM);
    const works = cell.verdict === "works";
    return {
      outcome: isUnasked && works ? "streams-work-unasked" : works ? "streams-are-asked-for" : "no-streams",
      facts: [
        `Offered to the guest: ${describeFeatures(words.offeredToGuest & all, "vsock")}. Acknowledged: ${describeFeatures(acknowledged, "vsock")}.`,
        `Stream sockets, both ways: ${cell.verdict}, ${cell.reason}.`,
      ],
      cells: [cell],
    };
  },
};

export const CROSVM_HIDES_SEQPACKET: Disagreement = {
  id: "crosvm-hides-seqpacket",
  title: "crosvm hides the kernel's SEQPACKET from its guest, and QEMU hands it on",
  question: "Linux vhost-vsock has offered SEQPACKET since 5.14. Which guests get to see it?",
  sources: [
    "crosvm f1e797a68, devices/src/virtio/vhost/vsock.rs (base_features only)",
    "QEMU 10.0, hw/virtio/vhost-vsock-common.c, feature_bits, property seqpacket=auto",
  ],
  reading: "crosvm's never; QEMU's if the device has it.",
  expected: "hidden-by-crosvm",
  lesson:
    "Whether a guest has SEQPACKET depends on the VMM's list and not on the kernel. A device cannot mend it.",
  async run() {
    const bit = VSOCK_F.VSOCK_SEQPACKET;
    const crosvm = await play(lineOf("plain/crosvm-2023-09/linux-6.12"));
    const vhostUser = await play(lineOf("plain/crosvm-vhost-user/crosvm-backend"));
    const qemu = await play(lineOf("plain/qemu-10.0-kernel/linux-6.12"));
    const lacking = await play(lineOf("plain/qemu-10.0-kernel/linux-5.10"));
    const see = (played: Play): string => offered(played.words.offeredToGuest, bit);
    const isHidden = !has(crosvm.words.offeredToGuest, bit) && has(qemu.words.offeredToGuest, bit);
    return {
      outcome: isHidden ? "hidden-by-crosvm" : "treated-alike",
      facts: [
        `Linux 6.12 ${offers(crosvm, bit)} SEQPACKET. Through crosvm it is ${see(crosvm)} to the guest, through QEMU it is ${see(qemu)}.`,
        `Linux 5.10 ${offers(lacking, bit)} it. Through QEMU it is ${see(lacking)} to the guest.`,
        `crosvm's vhost-user front-end hands on the bits of the device type: of a back-end that ${offers(vhostUser, bit)} it, it is ${see(vhostUser)}.`,
      ],
      cells: [crosvm.cell, vhostUser.cell, qemu.cell, lacking.cell],
    };
  },
};
