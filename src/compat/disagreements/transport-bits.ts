/** Disagreements about bits of rings and transport, bit 33 apart: who offers which, who hides which. */
import {
  describeVerdict,
  F,
  has,
  judgeAcknowledged,
  mask,
  maskOf,
  virtioFeature,
  without,
} from "../../virtio/index.js";
import type { Disagreement } from "./disagreement.js";
import { deviceWith, guestKnowing, type Line, lineOf, offering, type Play, play, vmmWith } from "./play.js";
import { onStage } from "./stage.js";
import { offered, offers, taken, told } from "./wording.js";

export const IN_ORDER_UNKNOWN_TO_THE_GUEST: Disagreement = {
  id: "in-order-unknown-to-the-guest",
  title: "IN_ORDER was offered for years to guests that did not know it, and a newer Linux takes it at once",
  question:
    "Firecracker, cloud-hypervisor and libkrun offer IN_ORDER; Linux 6.12 drops the bit and 7.2 acknowledges it. What changes for a device under a guest's newer kernel, and does it keep the promise?",
  sources: [
    "Linux 7.2 and 6.12, drivers/virtio/virtio_ring.c, vring_transport_features",
    "cloud-hypervisor ae44c297, virtio-devices/src/vhost_user/mod.rs, DEFAULT_VIRTIO_FEATURES",
  ],
  reading: "Only new kernels negotiate it; what was an idle offer becomes a promise.",
  expected: "only-newer-guests-take-it",
  lesson:
    "An offer that nobody takes costs nothing until somebody does. A device that offers IN_ORDER has to keep it from the first day. This project's offers it and returns every buffer in the order in which it came.",
  async run() {
    const { guest, vmm, device } = lineOf("plain/cloud-hypervisor/dpdk-like");
    const promising = deviceWith(device, "in-order", offering(mask(F.IN_ORDER)));
    const newer = guestKnowing(guest, "in-order", mask(F.IN_ORDER));
    const older = await play({ guest, vmm, device: promising });
    const now = await play({ guest: newer, vmm, device: promising });
    const plain = await play({ guest: newer, vmm, device });
    const olderHas = has(older.words.acknowledgedByGuest, F.IN_ORDER);
    const newerHas = has(now.words.acknowledgedByGuest, F.IN_ORDER);
    const isKept = await onStage(promising, async (stage) => {
      const words = stage.negotiate(maskOf(F.VERSION_1, F.IN_ORDER, F.PROTOCOL_FEATURES), -1n);
      const driver = stage.start(words.features, stage.userAddressing, 2);
      if (!(await stage.talk(driver))) return undefined;
      return driver.queues.slice(0, 2).every((queue) => isInOrder(stage.platform.ram, queue));
    });
    const kept = isKept === undefined ? "nothing arrived" : isKept ? "kept" : "broken";
    return {
      outcome:
        newerHas && !olderHas ? "only-newer-guests-take-it" : newerHas ? "both-take-it" : "nobody-takes-it",
      facts: [
        `The device offers IN_ORDER, and ${vmm.program} hands it on: it is ${offered(older.words.offeredToGuest, F.IN_ORDER)} to both guests.`,
        `Linux 6.12 ${taken(older.words.acknowledgedByGuest, F.IN_ORDER)}; a guest that knows the bit ${taken(now.words.acknowledgedByGuest, F.IN_ORDER)}, and the device ${told(now.words.sentToBackend, F.IN_ORDER)}.`,
        `To a device that does not offer it, it is ${offered(plain.words.offeredToGuest, F.IN_ORDER)}: the offer is the device's, not the VMM's.`,
        `The data plane that all devices here share gave buffers back in the order in which they came: the promise is ${kept}.`,
      ],
      cells: [older.cell, now.cell, plain.cell],
    };
  },
};

interface RingOf {
  readonly size: number;
  readonly addresses: { readonly avail: bigint; readonly used: bigint };
}

/** Whether the last round of a ring's used entries names the heads of its avail entries, one for one. */
function isInOrder(
  ram: { view(gpa: number, bytes: number): Uint8Array },
  { size, addresses }: RingOf,
): boolean {
  const view = (address: bigint, bytes: number): DataView => {
    const slice = ram.view(Number(address), bytes).slice();
    return new DataView(slice.buffer);
  };
  const avail = view(addresses.avail, 4 + 2 * size);
  const used = view(addresses.used, 4 + 8 * size);
  const [usedIndex, availIndex] = [used.getUint16(2, true), avail.getUint16(2, true)];
  // Of the last `size` used entries, those whose avail entry was not written over since.
  const count = Math.min(size - (availIndex - usedIndex), usedIndex);
  for (let back = 1; back <= count; back++) {
    const slot = (usedIndex - back) & (size - 1);
    if (used.getUint32(4 + 8 * slot, true) !== avail.getUint16(4 + 2 * slot, true)) return false;
  }
  return count > 0;
}

export const CROSVM_STRIPS_PACKED: Disagreement = {
  id: "crosvm-strips-packed",
  title: "crosvm takes RING_PACKED out of what a back-end advertises",
  question:
    "A back-end may offer packed rings; crosvm computes the positions of split ones. Does the bit reach its guest, and what do others do with it?",
  sources: [
    "crosvm f1e797a68, devices/src/virtio/vhost_user_frontend/mod.rs; third_party/vmm_vhost/src/backend_server.rs",
    "cloud-hypervisor issue 2833",
  ],
  reading: "crosvm strips it on both sides.",
  expected: "stripped",
  lesson:
    "What crosvm does is the careful thing. Others hand the bit on, or offer it unasked, so a device that serves split rings only should not offer it, and should refuse it if it comes all the same. This project's device serves packed rings, and takes position 0, where a driver begins by the count of split rings, for where it begins by that of packed ones.",
  async run() {
    const bit = F.RING_PACKED;
    const through = (vmm: string): Promise<Play> => {
      const line = lineOf(`plain/${vmm}/vhost-device-vsock`);
      return play({ ...line, device: deviceWith(line.device, "packed", offering(mask(bit))) });
    };
    const crosvm = await through("crosvm-vhost-user");
    const others: Play[] = [];
    for (const vmm of ["qemu-10.0", "cloud-hypervisor", "openvmm", "libkrun"])
      others.push(await through(vmm));
    const unasked = lineOf("plain/qemu-7.2/vhost-device-vsock");
    const { offer } = unasked.vmm;
    const packedOn = vmmWith(unasked.vmm, "packed", { offer: { ...offer, own: offer.own | mask(bit) } });
    const option = await play({ ...unasked, vmm: packedOn });
    const own = await play(lineOf("plain/crosvm-vhost-user/crosvm-backend"));
    const libkrun = await play(lineOf("plain/libkrun/bit33-auto"));
    const names = (isOffered: boolean): string =>
      others
        .filter(({ words }) => has(words.offeredToGuest, bit) === isOffered)
        .map(({ cell }) => cell.name.split("/")[1])
        .join(", ") || "nobody";
    return {
      outcome: has(crosvm.words.offeredToGuest, bit) ? "handed-on" : "stripped",
      facts: [
        `A back-end ${offers(crosvm, bit)} RING_PACKED. Through crosvm it is ${offered(crosvm.words.offeredToGuest, bit)} to the guest, and the device ${told(crosvm.words.sentToBackend, bit)}. crosvm's own back-end ${offers(own, bit)} it.`,
        `Of the others, these keep it from the guest, too: ${names(false)}. These hand it on: ${names(true)}.`,
        `QEMU 7.2 with the option \`packed=on\`, in front of a back-end that ${offers(option, bit)} it: it is ${offered(option.words.offeredToGuest, bit)} to the guest.`,
        `What a device of this project makes of the bit if it does not offer it: ${judgeAcknowledged(0n, mask(bit)).verdicts.map(describeVerdict).join("; ")}.`,
        `What this project's device makes of it, which does: through ${libkrun.cell.name.split("/")[1]} it is ${offered(libkrun.words.offeredToGuest, bit)} to the guest, and the cell ends with "${libkrun.cell.verdict}".`,
      ],
      cells: [crosvm.cell, ...others.map(({ cell }) => cell), option.cell, own.cell, libkrun.cell],
    };
  },
};

export const CLOUD_HYPERVISOR_DROPS_INDIRECT: Disagreement = {
  id: "cloud-hypervisor-drops-indirect",
  title: "cloud-hypervisor drops INDIRECT_DESC from devices whose addresses it translates itself",
  question:
    "Its `set_access_platform` takes INDIRECT_DESC out of the offer, since tables would have to be translated, too. Does a vsock guest ever lose the bit that way?",
  sources: [
    "cloud-hypervisor ae44c297, virtio-devices/src/device.rs, set_access_platform",
    "cloud-hypervisor, virtio-devices/src/vhost_user/generic_vhost_user.rs (does not override it)",
    "cloud-hypervisor, virtio-devices/src/vsock/device.rs (does not offer INDIRECT_DESC)",
  ],
  reading: "cloud-hypervisor drops INDIRECT_DESC wherever bit 33 is used.",
  expected: "dropped",
  moot: "kept-for-vhost-user",
  lesson:
    "The rule is for devices that cloud-hypervisor serves itself. A vhost-user device is not concerned, and the built-in vsock device never offers INDIRECT_DESC.",
  async run() {
    const bit = F.INDIRECT_DESC;
    const plain = await play(lineOf("plain/cloud-hypervisor/bit33-auto"));
    const protectedGuest = await play(lineOf("protected/cloud-hypervisor/bit33-auto"));
    const see = (played: Play): string => offered(played.words.offeredToGuest, bit);
    const isDropped = has(plain.words.offeredToGuest, bit) && !has(protectedGuest.words.offeredToGuest, bit);
    const has33 = has(protectedGuest.words.offeredToGuest, F.ACCESS_PLATFORM);
    return {
      outcome: isDropped ? "dropped" : "kept-for-vhost-user",
      facts: [
        `A vhost-user device through cloud-hypervisor: INDIRECT_DESC is ${see(plain)} to a plain guest, and ${see(protectedGuest)} to a protected one, which is ${has33 ? "offered" : "not offered"} bit 33.`,
      ],
      cells: [plain.cell, protectedGuest.cell],
      derived: [
        "The code of cloud-hypervisor's vhost-user devices leaves `set_access_platform` at its default, which does nothing.",
        "cloud-hypervisor's built-in vsock device, which translates itself, is no vhost device and cannot take part here; by its source it never offers INDIRECT_DESC in the first place.",
      ],
    };
  },
};

export const SUSPEND_42_OR_43: Disagreement = {
  id: "suspend-42-or-43",
  title: "crosvm calls bit 42 SUSPEND, and the specification bit 43",
  question:
    "A back-end built from crosvm's tree and a driver built from VIRTIO 1.4 both know VIRTIO_F_SUSPEND, by different numbers. What do they negotiate, and what does either word say to the other?",
  sources: [
    "crosvm f1e797a68, virtio_sys/src/virtio_config.rs",
    "VIRTIO 1.4, Reserved Feature Bits (virtio-spec f219fef)",
    "VIRTIO, Network Device, Feature bits (42 is VIRTIO_NET_F_GUEST_RSC6)",
  ],
  reading: "Each offers what the other does not know.",
  expected: "never-negotiated",
  lesson:
    "Two numbers for one name are two features: neither side is misled, and nothing is suspended. The danger is 42 on another device type, where VIRTIO has given it away.",
  async run() {
    const [theirs, spec] = [F.SUSPEND_CROSVM, F.SUSPEND];
    const line = lineOf("plain/crosvm-vhost-user/dpdk-like");
    const device = (bit: number) => deviceWith(line.device, `suspend-${bit}`, offering(mask(bit)));
    const guest = (bit: number) => guestKnowing(line.guest, `suspend-${bit}`, mask(bit));
    const crossed = await play({ ...line, guest: guest(spec), device: device(theirs) });
    const reversed = await play({ ...line, guest: guest(theirs), device: device(spec) });
    const agreed = await play({ ...line, guest: guest(theirs), device: device(theirs) });
    const standard = await play({ ...line, guest: guest(spec), device: device(spec) });
    const suspends = ({ words }: Play): boolean =>
      has(words.acknowledgedByGuest, theirs) || has(words.acknowledgedByGuest, spec);
    const judged = judgeAcknowledged(mask(F.VERSION_1), maskOf(F.VERSION_1, theirs, spec));
    return {
      outcome: suspends(crossed) || suspends(reversed) ? "mistaken-for-each-other" : "never-negotiated",
      facts: [
        `Bit ${theirs} is ${virtioFeature(theirs)?.symbol} (${virtioFeature(theirs)?.nonstandard === true ? "crosvm's" : "the specification's"}), bit ${spec} is ${virtioFeature(spec)?.symbol}.`,
        `A device that offers ${theirs}, a guest that knows ${spec}: suspension is ${suspends(crossed) ? "" : "not "}negotiated. The other way round: ${suspends(reversed) ? "" : "not "}negotiated. Both ${theirs}: ${suspends(agreed) ? "" : "not "}negotiated.`,
        `Both ${spec}, through crosvm: ${suspends(standard) ? "" : "not "}negotiated, since crosvm hands on the number that it knows and no other.`,
        `What this project's device makes of either: ${judged.verdicts.map(describeVerdict).join("; ")}.`,
      ],
      cells: [crossed.cell, reversed.cell, agreed.cell, standard.cell],
    };
  },
};

export const FEATURES_ASKED_TOO_LATE: Disagreement = {
  id: "features-asked-too-late",
  title:
    "A VMM that asks VHOST_GET_FEATURES after its guest has chosen lets the guest hold bits that vhost lacks",
  question:
    "crosvm negotiates with the guest first and cuts the result down for vhost afterwards. What does a guest do with a bit that the device was never told of?",
  sources: [
    "Stefan Hajnoczi, kvm list, August 2022: VHOST_GET_FEATURES has to come before the negotiation with the guest",
    "crosvm 4e7d00be2^, devices/src/virtio/vhost/worker.rs",
  ],
  reading: "The guest may hold bits that vhost lacks.",
  expected: "guest-holds-what-the-device-lacks",
  lesson:
    "The device has to be asked before the guest is offered anything. A guest that holds EVENT_IDX without its device waits for notifications by a rule that nobody else follows.",
  async run() {
    const bit = F.EVENT_IDX;
    const line = lineOf("plain/crosvm-2022-07/linux-5.15");
    const device = deviceWith(line.device, "no-event-idx", (model) => ({
      features: without(model.features, bit),
    }));
    const asksFirst = vmmWith(line.vmm, "asks-first", {
      asksDevice: "before-guest",
      offer: { ...line.vmm.offer, passed: line.vmm.offer.own, own: 0n },
    });
    const late: Line = { ...line, device };
    const asked = await play(late);
    const first = await play({ ...late, vmm: asksFirst });
    const incident = await play(lineOf("restricted-dma/crosvm-2022-07/linux-5.10"));
    const holds = ({ words }: Play, which: number): boolean =>
      has(words.acknowledgedByGuest, which) && !has(words.offeredByBackend, which);
    const held = (played: Play, which: number): string =>
      holds(played, which) ? "holds a bit that the device lacks" : "holds no bit that the device lacks";
    return {
      outcome: holds(asked, bit) ? "guest-holds-what-the-device-lacks" : "guest-holds-what-the-device-has",
      facts: [
        `A kernel without EVENT_IDX, asked after the guest: the guest ${held(asked, bit)}, and the end is ${asked.cell.verdict}: ${asked.cell.reason}.`,
        `The same kernel, asked before the guest: the guest ${held(first, bit)}, and the end is ${first.cell.verdict}.`,
        `The order has a good side, too. On Linux 5.10 a protected guest ${held(incident, F.ACCESS_PLATFORM)}, bit 33, and the end is ${incident.cell.verdict}: that is why 5.10 was fine.`,
      ],
      cells: [asked.cell, first.cell, incident.cell],
      derived: [
        "No vhost-vsock is known that lacks EVENT_IDX: the first two plays show what the order can do.",
      ],
    };
  },
};
