/** Disagreements about vhost-user itself: protocol features, flags, the event queue, the dirty log. */
import { builtinDevice, builtinProfiles } from "../../profiles/builtin.js";
import { encodePayload, isLegal, LAYOUTS, messageByName } from "../../vhost/wire/index.js";
import {
  bitsOf,
  describeFeatures,
  describeProtocolFeatures,
  F,
  has,
  mask,
  maskOf,
  PROTOCOL_F,
  protocolFeature,
  without,
} from "../../virtio/index.js";
import type { Disagreement } from "./disagreement.js";
import { deviceWith, lineOf, play } from "./play.js";
import { type Addressing, objection, onStage, type Stage } from "./stage.js";

const EVERYTHING = -1n;
const PLAIN = maskOf(F.VERSION_1, F.EVENT_IDX, F.INDIRECT_DESC, F.PROTOCOL_FEATURES);

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
    const took = ({ words }: typeof ten): string =>
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
        `This project's device does not offer it: ${!has(ours, bit)}.`,
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
        const words = stage.negotiate(PLAIN, maskOf(bit, PROTOCOL_F.REPLY_ACK, PROTOCOL_F.CONFIG));
        if (!has(words.protocolFeatures, bit)) return "the bit was not offered";
        stage.session.needReply = true;
        let works = false;
        const refusal = objection(stage, () => stage.start(words.features, addressing(stage), 2));
        if (refusal !== undefined) return refusal;
        works = await stage.talkStarted();
        return works
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
        `A back-end that means SHMEM by bit ${bit}, a front-end that sends guest-physical addresses in the memory table and in SET_VRING_ADDR alike: ${told(whole)}. The back-end only computes an offset into a region, and both numbers moved together.`,
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

export const EVENT_QUEUE_OWNER: Disagreement = {
  id: "event-queue-owner",
  title: "QEMU keeps the event queue for itself, and crosvm and cloud-hypervisor hand it to the back-end",
  question:
    "Whoever owns the event queue has to tell the guest of a transport reset. Does a back-end work with two queues and with three, and does anybody write to the third?",
  sources: [
    "QEMU 10.0, hw/virtio/vhost-vsock-common.c (nvqs = 2)",
    "crosvm f1e797a68, devices/src/virtio/vhost_user_frontend/mod.rs",
    "VIRTIO 1.4, Socket Device, Device Events",
  ],
  reading: "QEMU hands over two queues, crosvm and cloud-hypervisor three.",
  expected: "works-with-two-and-three",
  async run() {
    const names = [
      "plain/qemu-10.0/bit33-auto",
      "plain/crosvm-vhost-user/bit33-auto",
      "plain/cloud-hypervisor/bit33-auto",
      "plain/qemu-10.0/vhost-device-vsock",
      "plain/crosvm-vhost-user/vhost-device-vsock",
    ];
    const lines = names.map(lineOf);
    const plays = [];
    for (const line of lines) plays.push(await play(line));
    const handed = lines.slice(0, 3).map(({ vmm }) => `${vmm.program}: ${vmm.queues}`);
    const events = await onStage(builtinDevice("bit33-auto"), async (stage) => {
      const words = stage.negotiate(PLAIN, EVERYTHING & mask(PROTOCOL_F.CONFIG));
      const driver = stage.start(words.features, stage.userAddressing, 3);
      await stage.talk(driver);
      const { addresses } = driver.queues[2];
      const used = stage.platform.ram.view(Number(addresses.used), 4).slice();
      return new DataView(used.buffer).getUint16(2, true);
    });
    const allWork = plays.every(({ cell }) => cell.verdict === "works");
    return {
      outcome: allWork ? "works-with-two-and-three" : "does-not-work-with-both",
      facts: [
        `Queues handed to the device: ${handed.join(", ")}.`,
        `In ${plays.filter(({ cell }) => cell.verdict === "works").length} of ${plays.length} cells stream sockets work both ways.`,
        `Three queues, handed to this project's device: it wrote ${events} events. It neither migrates nor changes a guest's context id while it is connected, so it has no reset to tell of.`,
      ],
      cells: plays.map(({ cell }) => cell),
    };
  },
};

export const DIRTY_LOG_NEVER_CLEARED: Disagreement = {
  id: "dirty-log-never-cleared",
  title: "LOG_ALL and DEVICE_STATE: a vsock device that could be migrated exists on neither side",
  question:
    "rust-vmm ignores that LOG_ALL is cleared again, cloud-hypervisor toggles it while rings run, and QEMU marks its vsock devices unmigratable. What does each device offer, and what happens to a front-end that sets the bit all the same?",
  sources: [
    "vhost-user, Migration",
    "rust-vmm vhost-user-backend, handler.rs, set_features",
    "QEMU 10.0, hw/virtio/vhost-user-vsock.c (unmigratable)",
    "cloud-hypervisor ae44c297, virtio-devices/src/vhost_user/vu_common_ctrl.rs, start_dirty_log",
  ],
  reading: "rust-vmm ignores a cleared LOG_ALL, so a device goes on logging.",
  expected: "logs-for-ever",
  async run() {
    const models = builtinProfiles().devices;
    const offering = models.filter(
      ({ behaviour }) => behaviour.engine === "model" && has(behaviour.features, F.LOG_ALL),
    );
    const logging = models.filter(
      ({ behaviour }) =>
        behaviour.engine === "model" && has(behaviour.protocolFeatures, PROTOCOL_F.LOG_SHMFD),
    );
    const state = models.filter(
      ({ behaviour }) =>
        behaviour.engine === "model" && has(behaviour.protocolFeatures, PROTOCOL_F.DEVICE_STATE),
    );
    const setAndClear = (name: string) =>
      onStage(builtinDevice(name), (stage) => {
        const { session } = stage;
        const words = stage.negotiate(PLAIN, maskOf(PROTOCOL_F.REPLY_ACK));
        session.needReply = true;
        const offers = session.getFeatures();
        const protocol = session.getProtocolFeatures();
        const answer = objection(stage, () => session.setFeatures(words.features | mask(F.LOG_ALL)));
        return { offers, protocol, answer };
      });
    const ours = await setAndClear("bit33-auto");
    const rust = await setAndClear("vhost-device-vsock");
    const isLogged = [ours, rust].some(({ answer }) => answer === undefined);
    const list = (found: typeof models): string => found.map(({ name }) => name).join(", ") || "none";
    return {
      outcome: isLogged || logging.length > 0 ? "logs-for-ever" : "refused-before-it-logs",
      facts: [
        `LOG_ALL is offered by ${list(offering)}; LOG_SHMFD, without which a vhost-user front-end has no log to share, by ${list(logging)}; DEVICE_STATE by ${list(state)}.`,
        `vhost-device-vsock offers ${describeFeatures(rust.offers, "vsock")} and, told of LOG_ALL, ends: ${rust.answer ?? "no, it takes it"}.`,
        `This project's device offers ${describeProtocolFeatures(ours.protocol)} and refuses: ${ours.answer ?? "no, it takes it"}.`,
        `So the bit that is never cleared is one that no vsock back-end lets a front-end set: ${bitsOf(ours.offers & mask(F.LOG_ALL)).length + bitsOf(without(rust.offers, F.PROTOCOL_FEATURES) & mask(F.LOG_ALL)).length} of these two offer it.`,
      ],
      cells: [],
      derived: [
        "Linux vhost-vsock offers LOG_ALL and logs to memory of its VMM; logging itself is not modelled here, and QEMU's mark on its vhost-user-vsock device is read from its source.",
      ],
    };
  },
};

/** What the numbers mean to each reader. */
const CONFIG_FLAGS = [0, 1, 2] as const;

export const CONFIG_FLAGS_DIFFER: Disagreement = {
  id: "config-flags",
  title:
    "The flags of SET_CONFIG: 1 means migration in the document, and an ordinary write to rust-vmm, crosvm and cloud-hypervisor",
  question:
    "By the document a write with flag 1 may change read-only fields, guest_cid among them. A front-end that means an ordinary write sends 1. What does a back-end answer to each flag?",
  sources: [
    "vhost-user, Virtio device config space",
    "rust-vmm vhost, VhostUserConfigFlags",
    "cloud-hypervisor, virtio-devices/src/vhost_user/generic_vhost_user.rs, write_config",
  ],
  reading:
    "An ordinary write of theirs reads as one for a migration, which may change the guest's context id.",
  expected: "changes-the-context-id",
  async run() {
    const ask = (name: string) =>
      onStage(builtinDevice(name), (stage) => {
        const { session } = stage;
        stage.negotiate(PLAIN, maskOf(PROTOCOL_F.CONFIG, PROTOCOL_F.REPLY_ACK));
        session.needReply = true;
        const read = (flags: number): string =>
          Buffer.from(session.getConfig(0, 8, flags) ?? []).toString("hex");
        const before = CONFIG_FLAGS.map(read);
        const answers: string[] = [];
        for (const flags of CONFIG_FLAGS) {
          const data = Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0);
          const problem = stage.end.left ?? objection(stage, () => session.setConfig(0, data, flags));
          answers.push(problem ?? "taken");
        }
        const after = stage.end.left === undefined ? CONFIG_FLAGS.map(read) : undefined;
        return { before, answers, after };
      });
    const ours = await ask("bit33-auto");
    const dpdk = await ask("dpdk-like");
    const changed =
      ours.after === undefined || ours.after.some((bytes, index) => bytes !== ours.before[index]);
    const alike = new Set(ours.before).size === 1;
    const writers = builtinProfiles().vmms.filter(
      ({ configFlags, transport }) => transport === "vhost-user" && configFlags === 1,
    );
    return {
      outcome: changed ? "changes-the-context-id" : "refused-whatever-the-flag",
      facts: [
        `GET_CONFIG is answered ${alike ? "alike" : "differently"} for flags ${CONFIG_FLAGS.join(", ")}: ${ours.before[0]}. With flag 1 it is sent by ${writers.map(({ program }) => program).join(", ") || "nobody"}.`,
        `SET_CONFIG of the guest's context id to this project's device: ${CONFIG_FLAGS.map((flag, index) => `flag ${flag}: ${ours.answers[index]}`).join("; ")}. The configuration space ${changed ? "has changed" : "is as it was"}.`,
        `To a back-end on DPDK's library: ${CONFIG_FLAGS.map((flag, index) => `flag ${flag}: ${dpdk.answers[index]}`).join("; ")}.`,
        "Whoever reads the flag strictly and whoever does not say the same here: nothing in a vsock device's configuration space can be written, and this device does not migrate.",
      ],
      cells: [],
    };
  },
};
