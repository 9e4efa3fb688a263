/** Disagreements about what messages mean, and about who owns what: the event queue, the dirty log, the flags of a write. */
import { builtinDevice, builtinProfiles } from "../../profiles/builtin.js";
import type { DeviceProfile } from "../../profiles/device-profile.js";
import { F, has, mask, maskOf, PROTOCOL_F } from "../../virtio/index.js";
import type { Disagreement } from "./disagreement.js";
import { lineOf, type Play, play } from "./play.js";
import { objection, onStage, PLAIN_FEATURES } from "./stage.js";

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
  lesson:
    "Both ways work as long as nobody has an event to tell. A back-end that migrates, or changes its guest's context id, would have to know whether the queue is its own: with QEMU it is not.",
  async run() {
    const names = [
      "plain/qemu-10.0/bit33-auto",
      "plain/crosvm-vhost-user/bit33-auto",
      "plain/cloud-hypervisor/bit33-auto",
      "plain/qemu-10.0/vhost-device-vsock",
      "plain/crosvm-vhost-user/vhost-device-vsock",
    ];
    const lines = names.map(lineOf);
    const plays: Play[] = [];
    for (const line of lines) plays.push(await play(line));
    const handed = lines.slice(0, 3).map(({ vmm }) => `${vmm.program}: ${vmm.queues}`);
    const events = await onStage(builtinDevice("bit33-auto"), async (stage) => {
      const words = stage.negotiate(PLAIN_FEATURES, mask(PROTOCOL_F.CONFIG));
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
        `Three queues, handed to this project's device: it wrote ${events} events. It tells a driver that goes on running without its connections, and these drivers start anew.`,
      ],
      cells: plays.map(({ cell }) => cell),
    };
  },
};

export const DIRTY_LOG_NEVER_CLEARED: Disagreement = {
  id: "dirty-log-never-cleared",
  title:
    "Of the vhost-user vsock devices only this project's has a dirty log, without which no VM migrates live",
  question:
    "rust-vmm ignores that LOG_ALL is cleared again, cloud-hypervisor toggles it while rings run, and QEMU marks its vhost-user vsock device unmigratable. What does each device offer, and what happens to a front-end that sets the bit all the same?",
  sources: [
    "vhost-user, Migration",
    "rust-vmm vhost-user-backend, handler.rs, set_features",
    "QEMU 10.0, hw/virtio/vhost-user-vsock.c (unmigratable)",
    "cloud-hypervisor ae44c297, virtio-devices/src/vhost_user/vu_common_ctrl.rs, start_dirty_log",
  ],
  reading: "rust-vmm ignores a cleared LOG_ALL, so a device goes on logging.",
  expected: "logs-for-ever",
  moot: "no-other-log-to-write",
  lesson:
    "The reading is about rust-vmm's library, and no vsock back-end uses that part of it: none of them has a log to write. This project's device has one, and a cleared LOG_ALL ends it, also while rings run. Whether a VM with a vhost-user vsock device migrates is up to its VMM: QEMU does not try.",
  async run() {
    const devices = builtinProfiles().devices.filter(({ transports }) => transports.includes("vhost-user"));
    const plays: LogAllAnswer[] = [];
    for (const device of devices) plays.push(await setLogAll(device));
    const names = (wanted: (play: LogAllAnswer) => boolean): string =>
      plays.flatMap((played) => (wanted(played) ? [played.name] : [])).join(", ") || "none";
    const refusal = (name: string): string =>
      plays.find((played) => played.name === name)?.refusal ?? "it takes the bit";
    const logs = ({ name, protocol, refusal: said }: LogAllAnswer): boolean =>
      !name.startsWith("bit33") && said === undefined && has(protocol, PROTOCOL_F.LOG_SHMFD);
    return {
      outcome: plays.some(logs) ? "logs-for-ever" : "no-other-log-to-write",
      facts: [
        `Of the vhost-user back-ends, LOG_ALL is offered by ${names(({ offers }) => has(offers, F.LOG_ALL))}; LOG_SHMFD, without which a front-end has no log to share, by ${names(({ protocol }) => has(protocol, PROTOCOL_F.LOG_SHMFD))}; DEVICE_STATE by ${names(({ protocol }) => has(protocol, PROTOCOL_F.DEVICE_STATE))}.`,
        `Told of LOG_ALL, these take it: ${names(({ refusal: said }) => said === undefined)}; and these do not: ${names(({ refusal: said }) => said !== undefined)}.`,
        `What vhost-device-vsock says: ${refusal("vhost-device-vsock")}.`,
        `What this project's device says: ${refusal("bit33-auto")}.`,
      ],
      cells: [],
      derived: [
        "Linux vhost-vsock logs to memory of its VMM, and a cleared LOG_ALL ends that; logging is not modelled here.",
        "QEMU marks vhost-user-vsock as unmigratable, so that it never sets the bit; rust-vmm's library never undoes it. Both are read from source.",
      ],
    };
  },
};

interface LogAllAnswer {
  readonly name: string;
  readonly offers: bigint;
  readonly protocol: bigint;
  /** What it said to LOG_ALL, if it did not go along. */
  readonly refusal: string | undefined;
}

function setLogAll(profile: DeviceProfile): Promise<LogAllAnswer> {
  return onStage(profile, (stage) => {
    const { session } = stage;
    const words = stage.negotiate(PLAIN_FEATURES, maskOf(PROTOCOL_F.REPLY_ACK));
    const offers = session.getFeatures();
    const protocol = session.getProtocolFeatures();
    const refusal = objection(stage, () => {
      session.setFeatures(words.features | mask(F.LOG_ALL));
      session.getFeatures();
    });
    return { name: profile.name, offers, protocol, refusal };
  });
}

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
  moot: "refused-whatever-the-flag",
  lesson:
    "The ambiguity is there, and a vsock device has no field to write. For a device that migrates, a write with flag 1 would be a guess; one that does not can refuse every flag alike.",
  async run() {
    const ours = await askConfig("bit33-auto");
    const peer = await askConfig("dpdk-like");
    const isChanged = [ours, peer].some(({ before, after }) => after !== undefined && after !== before[0]);
    const writers = builtinProfiles().vmms.filter(
      ({ configFlags, transport }) => transport === "vhost-user" && configFlags === 1,
    );
    const flags = CONFIG_FLAGS.join(", ");
    return {
      outcome: isChanged ? "changes-the-context-id" : "refused-whatever-the-flag",
      facts: [
        `GET_CONFIG with flags ${flags}: ${alike(ours.before)}. With flag 1 it is sent by ${writers.map(({ program }) => program).join(", ") || "nobody"}.`,
        `SET_CONFIG of the guest's context id with flags ${flags}, to this project's device: ${alike(ours.answers)}. The context id ${isChanged ? "has changed" : "is as it was"}.`,
        `The same to a back-end on DPDK's library: ${alike(peer.answers)}.`,
        `Sent without asking for an answer, the refusal ${ours.staysSilent ? "goes unseen, and the session goes on" : "ends the session"}.`,
      ],
      cells: [],
      derived: [
        "cloud-hypervisor asks for an answer to every message, and its process ends (a panic) when a SET_CONFIG is refused. A guest whose driver writes to the configuration space of its vsock device can so end its own VM; Linux's driver never writes there.",
      ],
    };
  },
};

/** One answer if all are the same, else each. */
function alike(answers: readonly string[]): string {
  return new Set(answers).size === 1 ? `each time ${answers[0]}` : answers.join("; ");
}

interface ConfigAnswers {
  /** The configuration space, read with each flag. */
  readonly before: readonly string[];
  /** What was said to a write with each flag. */
  readonly answers: readonly string[];
  /** The configuration space at the end, undefined if nobody was there to be asked. */
  readonly after: string | undefined;
  /** A refused write that asked for no answer left the session as it was. */
  readonly staysSilent: boolean;
}

function askConfig(name: string): Promise<ConfigAnswers> {
  return onStage(builtinDevice(name), (stage) => {
    const { session } = stage;
    stage.negotiate(PLAIN_FEATURES, maskOf(PROTOCOL_F.CONFIG, PROTOCOL_F.REPLY_ACK));
    const read = (flags: number): string => Buffer.from(session.getConfig(0, 8, flags) ?? []).toString("hex");
    const before = CONFIG_FLAGS.map(read);
    const write = (flags: number): void => session.setConfig(0, Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0), flags);
    session.needReply = true;
    const answers = CONFIG_FLAGS.map((flags) => {
      const said = objection(stage, () => write(flags));
      return said === undefined ? "taken" : `refused: ${said.replace(/^[^:]*: /, "")}`;
    });
    session.needReply = false;
    const staysSilent = objection(stage, () => {
      write(0);
      read(0);
    });
    const isThere = staysSilent === undefined;
    return { before, answers, after: isThere ? read(0) : undefined, staysSilent: isThere };
  });
}
