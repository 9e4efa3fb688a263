/** Disagreements about vhost-user protocol features: numbers that are acknowledged unseen, or mean two things. */
import { builtinDevice } from "../../profiles/builtin.js";
import { encodePayload, isLegal, LAYOUTS, messageByName } from "../../vhost/wire/index.js";
import { F, has, mask, maskOf, PROTOCOL_F, protocolFeature } from "../../virtio/index.js";
import type { Disagreement } from "./disagreement.js";
import { deviceWith, lineOf, type Play, play } from "./play.js";
import { type Addressing, objection, onStage, PLAIN_FEATURES, type Stage } from "./stage.js";

export const QEMU_TAKES_XEN_MMAP: Disagreement = {
  id: "qemu-takes-xen-mmap",
  title: "QEMU acknowledges XEN_MMAP, which it does not implement, because its number is below a limit",
  question:
    "QEMU takes every protocol feature below VHOST_USER_PROTOCOL_F_MAX. XEN_MMAP makes every region of the memory table 40 bytes long. Who would notice that QEMU goes on sending 32?",
  sources: [
    "QEMU 10.0, hw/virtio/vhost-user.c, VHOST_USER_PROTOCOL_FEATURE_MASK",
    "vhost-user, Memory region description",
  ],
  reading: "QEMU acknowledges the bit wherever it is offered.",
  expected: "acknowledged",
  lesson:
    "Acknowledging by number is acknowledging things unseen. A back-end should offer XEN_MMAP only where it can insist on Xen, and look at the size of what comes.",
  async run() {
    const bit = PROTOCOL_F.XEN_MMAP;
    const through = async (vmm: string) => {
      const line = lineOf(`plain/${vmm}/dpdk-like`);
      const offers = (model: { readonly protocolFeatures: bigint }) => ({
        protocolFeatures: model.protocolFeatures | mask(bit),
      });
      return play({ ...line, device: deviceWith(line.device, "xen-mmap", offers) });
    };
    const [ten, seven, crosvm] = [
      await through("qemu-10.0"),
      await through("qemu-7.2"),
      await through("crosvm-vhost-user"),
    ];
    const took = ({ words }: Play): string =>
      has(words.protocolFeatures, bit) ? "acknowledges it" : "does not acknowledge it";
    const sizes = await onStage(builtinDevice("bit33-auto"), ({ users, platform }) => {
      const regions = users.regions(platform.ram.fd);
      const sent = encodePayload({ kind: "memTable", regions }).byteLength;
      const tail = LAYOUTS.XEN_REGION_TAIL.byteLength;
      return { regions: regions.length, sent, due: sent + regions.length * tail };
    });
    const ours = await onStage(builtinDevice("bit33-auto"), ({ session }) => session.getProtocolFeatures());
    return {
      outcome: has(ten.words.protocolFeatures, bit) ? "acknowledged" : "not-acknowledged",
      facts: [
        `To a back-end that offers XEN_MMAP, QEMU 10.0 ${took(ten)}; QEMU 7.2, whose limit is lower, ${took(seven)}; crosvm, which names the features that it knows, ${took(crosvm)}.`,
        `A memory table of ${sizes.regions} regions has ${sizes.sent} bytes as QEMU sends it; a back-end that reads by XEN_MMAP waits for ${sizes.due}.`,
        `The back-end that was played offers the bit and reads either size, so the session goes on: ${ten.cell.verdict}.`,
        `This project's device ${has(ours, bit) ? "offers it" : "does not offer it"}.`,
      ],
      cells: [ten.cell, seven.cell, crosvm.cell],
    };
  },
};

/** A front-end that took GPA_ADDRESSES: guest-physical addresses wherever a message would carry a user address. */
function guestPhysical(stage: Stage): Addressing {
  const { regions } = stage.userAddressing;
  return {
    regions: regions.map((region) => ({ ...region, userAddress: region.guestAddress })),
    ring: (gpa) => gpa,
  };
}

/** Only the rings; the memory table keeps user addresses. */
function guestPhysicalRings(stage: Stage): Addressing {
  return { ...stage.userAddressing, ring: (gpa) => gpa };
}

export const SHMEM_OR_GPA_ADDRESSES: Disagreement = {
  id: "shmem-or-gpa-addresses",
  title:
    "Protocol feature 21 is SHMEM to a back-end built with vhost 0.16, and GPA_ADDRESSES to its front-end",
  question:
    "Such a back-end claims GPA_ADDRESSES without knowing it: QEMU 11.1 then sends it guest-physical addresses where it expects user addresses. Does it still find its rings?",
  sources: [
    "rust-vmm/vhost#367",
    "QEMU be51b7177c, vhost-user: add VHOST_USER_PROTOCOL_F_GPA_ADDRESSES",
    "crosvm 8ae81e773",
  ],
  reading: "Guest-physical addresses arrive where user addresses are expected, and nothing is found.",
  expected: "rings-not-found",
  lesson:
    "The reading had missed that the memory table changes with the rings: a back-end that only computes offsets into regions never notices which addresses they are in. What is lost is SHMEM itself, and every back-end that checks a user address for plausibility.",
  async run() {
    const bit = PROTOCOL_F.GPA_ADDRESSES;
    const shmem = deviceWith(builtinDevice("vhost-device-vsock"), "shmem-21", (model) => ({
      protocolFeatures: model.protocolFeatures | mask(bit),
    }));
    const ours = builtinDevice("bit33-auto");
    const attempt = (
      profile: typeof ours,
      addressing: (stage: Stage) => Addressing,
    ): Promise<string | undefined> =>
      onStage(profile, async (stage) => {
        const words = stage.negotiate(PLAIN_FEATURES, maskOf(bit, PROTOCOL_F.REPLY_ACK, PROTOCOL_F.CONFIG));
        if (!has(words.protocolFeatures, bit)) return "the bit was not offered";
        stage.session.needReply = true;
        const refusal = objection(stage, () => stage.start(words.features, addressing(stage), 2));
        if (refusal !== undefined) return refusal;
        return (await stage.talkStarted())
          ? undefined
          : (stage.log.findLast(({ event }) => event === "ring-held")?.message ?? "no data moves");
      });
    const whole = await attempt(shmem, guestPhysical);
    const half = await attempt(shmem, guestPhysicalRings);
    const oursWhole = await attempt(ours, guestPhysical);
    const oursHalf = await attempt(ours, guestPhysicalRings);
    const words = {
      offeredFeatures: mask(F.PROTOCOL_FEATURES),
      features: mask(F.PROTOCOL_FEATURES),
      protocolFeatures: mask(bit),
    };
    const askable = isLegal(messageByName("frontend", "GET_SHMEM_CONFIG"), words);
    const told = (problem: string | undefined): string =>
      problem === undefined ? "it works" : `it fails: ${problem}`;
    return {
      outcome: whole === undefined ? "rings-found-all-the-same" : "rings-not-found",
      facts: [
        `A back-end that means SHMEM by bit ${bit}, a front-end that sends guest-physical addresses in the memory table and in SET_VRING_ADDR alike: ${told(whole)}.`,
        `The same back-end, a front-end that leaves user addresses in the memory table: ${told(half)}.`,
        `This project's device, which means GPA_ADDRESSES by it: ${told(oursWhole)} with the first front-end, and ${told(oursHalf)} with the second.`,
        `Shared memory itself does not come about: with bit ${bit} alone GET_SHMEM_CONFIG is ${askable ? "" : "not "}a message of the session, as bit ${PROTOCOL_F.SHMEM} (${protocolFeature(PROTOCOL_F.SHMEM)?.name}) would make it.`,
      ],
      cells: [],
      derived: [
        "That QEMU puts guest-physical addresses into both places is read from its commit; no QEMU with this feature is run here.",
      ],
    };
  },
};
