/**
 * Lints on translation: what bit 33 was acknowledged for, and whether the IOTLB's questions, answers and ranges make
 * sense. Bit 33 says to a guest "use the DMA API" and to some back-ends "translate every address": the first lint here is
 * what becomes of it when the one is handed on as the other.
 */

import { IOTLB_TYPE, type IotlbMessage, type PayloadOf } from "../../vhost/wire/index.js";
import { DEFAULT_EXPLICIT_IOTLB_BIT, F, hex } from "../../virtio/index.js";
import { MOST_MAPPINGS } from "../model/iotlb-model.js";
import type { SessionModel } from "../model/session-model.js";
import { type LintTable, type MessageLook, MISS_NS, SILENCE_NS, type Sighting } from "./lint.js";

const END_OF_SPACE = 2n ** 64n;

/** The IOTLB message that this is, if it is one. */
function iotlbOf({ message }: MessageLook): PayloadOf<"iotlb"> | undefined {
  const { payload, isReply } = message;
  return isReply || payload?.kind !== "iotlb" ? undefined : payload;
}

function senderOf({ message }: MessageLook): "front-end" | "back-end" {
  return message.channel === "main" ? "front-end" : "back-end";
}

function typeName(type: number): string {
  return Object.entries(IOTLB_TYPE).find(([, value]) => value === type)?.[0] ?? `type ${type}`;
}

const FROM_FRONT: readonly number[] = [IOTLB_TYPE.UPDATE, IOTLB_TYPE.INVALIDATE];
const FROM_BACK: readonly number[] = [IOTLB_TYPE.MISS, IOTLB_TYPE.ACCESS_FAIL];

/** Whether mappings may be exchanged: by bit 33, or by this project's draft of a feature of its own. */
function mayTranslate(model: SessionModel): boolean {
  return model.isAcknowledged(F.ACCESS_PLATFORM) || model.hasProtocol(DEFAULT_EXPLICIT_IOTLB_BIT);
}

/** Without any, the kernel's device fails to start whatever was acknowledged. */
function hasRingAddresses({ rings, unseen }: SessionModel): boolean {
  return unseen.has("SET_VRING_ADDR") || [...rings.values()].some(({ addresses }) => addresses !== undefined);
}

function rangeOf({ iova, size }: IotlbMessage): string {
  return `${hex(iova)} with ${hex(size)} bytes`;
}

export const TRANSLATION_LINTS = {
  "bit33-without-iotlb": {
    severity: "warning",
    title: "Bit 33 is acknowledged, and the front-end never maps anything",
    rule:
      "vhost-user, IOMMU support, ties I/O virtual addresses to bit 33; VIRTIO says only that access may be limited or " +
      "translated; Linux drivers/vhost/vsock.c vhost_vsock_set_features: bit 33 enables the IOTLB",
    why:
      "The front-end hands on what its guest acknowledged to use the DMA API (crosvm until 4e7d00be2, and in its " +
      "vhost-user front-end to this day for protected guests). A back-end that takes the bit for an IOTLB finds it empty: " +
      "the kernel's vhost-vsock answers SET_RUNNING with EFAULT, others ask for mappings that never come.",
    todo:
      "In the front-end: mask bit 33 in SET_FEATURES unless it serves IOTLB messages. In the back-end: decide translation " +
      "by more than the bit. From outside: bit33 inspect --mask-feature ACCESS_PLATFORM, or --serve-iotlb.",
    onTime: ({ model, nowNs }) => {
      if (model.hasGap || model.runningSinceNs === undefined || !model.isAcknowledged(F.ACCESS_PLATFORM))
        return undefined;
      if (model.iotlbSinceAcknowledged > 0) return undefined;
      const atNs = model.runningSinceNs + SILENCE_NS;
      if (nowNs <= atNs) return undefined;
      const classes = new Set(
        model.runningRings.flatMap(({ addresses }) =>
          addresses === undefined ? [] : [model.classOf(addresses.desc)],
        ),
      );
      const places = [...classes].map((found) => (found === "iova" ? "I/O virtual" : found)).join(" and ");
      const text =
        "ACCESS_PLATFORM (33) is acknowledged, the rings run at " +
        `${places} addresses, and no IOTLB message came in ${SILENCE_NS / 1_000_000n} ms`;
      return { text, atNs };
    },
    // The kernel looks at once: SET_RUNNING writes to the used rings, through the IOTLB if bit 33 is set.
    onMessage: ({ message, model }) => {
      const { systemCall, name } = message;
      if (name !== "VHOST_VSOCK_SET_RUNNING" || systemCall?.result?.errno !== "EFAULT") return undefined;
      if (model.hasGap || model.iotlb.updates > 0 || !hasRingAddresses(model)) return undefined;
      if (model.hasUnseenFeatures) {
        const text =
          "VHOST_VSOCK_SET_RUNNING fails with EFAULT, and no IOTLB message came before: that is what the kernel does if " +
          "VHOST_SET_FEATURES, whose word is not shown, has ACCESS_PLATFORM (33)";
        return { text };
      }
      if (!model.isAcknowledged(F.ACCESS_PLATFORM)) return undefined;
      const text =
        "ACCESS_PLATFORM (33) is acknowledged, no IOTLB message came, and VHOST_VSOCK_SET_RUNNING fails with EFAULT";
      return { text };
    },
    // A back-end that takes the bit for an IOTLB may leave at once.
    onEnd: ({ model, by }) => {
      if (model.hasGap || by !== "back-end" || !model.isAcknowledged(F.ACCESS_PLATFORM)) return undefined;
      const addresses = [...model.rings.values()].flatMap((ring) =>
        ring.addresses ? [ring.addresses.desc] : [],
      );
      if (model.iotlbSinceAcknowledged > 0 || addresses.length === 0) return undefined;
      if (addresses.some((address) => model.classOf(address) === "iova")) return undefined;
      return {
        text:
          "ACCESS_PLATFORM (33) is acknowledged, ring addresses are the front-end's own, no IOTLB message came, and the " +
          "back-end left",
      };
    },
  },
  "miss-unanswered": {
    severity: "error",
    title: "A MISS is not answered by an UPDATE",
    rule: "vhost-user, IOMMU support: the front-end answers a MISS with an UPDATE",
    why: "The ring that needs the mapping stands still, and the guest with it.",
    todo: "In the front-end: serve the IOTLB, or do not acknowledge bit 33. From outside: bit33 inspect --serve-iotlb.",
    onTime: ({ model, nowNs }) => {
      if (model.hasGap) return undefined;
      const [first] = model.iotlb.pending;
      if (first === undefined || nowNs - first.atNs <= MISS_NS) return undefined;
      const more = model.iotlb.pending.filter(({ atNs }) => nowNs - atNs > MISS_NS).length - 1;
      const others = more > 0 ? ` (and ${more} more)` : "";
      const text = `MISS ${hex(first.iova)} has waited for ${MISS_NS / 1_000_000n} ms${others}`;
      return { text, atNs: first.atNs + MISS_NS };
    },
  },
  "miss-deadlock": {
    severity: "error",
    title: "Each end waits for the other: a MISS for its answer, an UPDATE for its own",
    rule:
      "QEMU hw/virtio/vhost-user.c: a MISS is answered once the UPDATE on the main socket has been; vhost-user, IOMMU " +
      "support",
    why:
      "QEMU sends the UPDATE on the main socket and waits for the answer to it before it answers the MISS. A back-end that " +
      "waits for the answer to its MISS, and reads nothing meanwhile, stands still for ever, and QEMU with it.",
    todo: "In the back-end: send a MISS without waiting for it, and go on with the ring when the UPDATE comes.",
    onTime: ({ open, nowNs, model }) => {
      if (model.hasGap) return undefined;
      const late = open.filter(
        ({ message }) => nowNs - message.timeNs > MISS_NS && message.payload?.kind === "iotlb",
      );
      const miss = late.find(({ message }) => message.channel === "backend");
      const update = late.find(({ message }) => message.channel === "main");
      if (miss === undefined || update === undefined) return undefined;
      const text = `#${miss.number} ${miss.message.name} and #${update.number} ${update.message.name} both wait for an answer`;
      return { text, atNs: update.message.timeNs + MISS_NS };
    },
  },
  "iotlb-overflow": {
    severity: "info",
    title: "More is mapped at a time than the kernel's vhost keeps",
    rule: "Linux drivers/vhost/vhost.c max_iotlb_entries, iotlb.c VHOST_IOTLB_FLAG_RETIRE; DPDK keeps as many",
    why: "At 2048 mappings the oldest is dropped, and has to be asked for again.",
    todo: "In the front-end: map larger ranges. In a back-end with a limit: expect to ask again.",
    onMessage: (look) => {
      if (iotlbOf(look)?.type !== IOTLB_TYPE.UPDATE || look.model.iotlb.mappings.length < MOST_MAPPINGS)
        return undefined;
      return { text: `an UPDATE on top of ${MOST_MAPPINGS} mappings` };
    },
  },
  "miss-refused": {
    severity: "warning",
    title: "The front-end refuses a MISS",
    rule: "vhost-user, VHOST_USER_BACKEND_IOTLB_MSG; QEMU hw/virtio/vhost-backend.c vhost_backend_handle_iotlb_msg",
    why:
      "The guest has no mapping there: it gave the device an address that it may not touch, or took the mapping back too " +
      "early. QEMU also refuses while the device is stopped.",
    todo: "Look at what the guest's driver put into the ring. A back-end should stop that ring and go on.",
    onMessage: ({ message, pairing }) => {
      const request = pairing?.request?.message;
      if (
        message.channel !== "backend" ||
        request?.payload?.kind !== "iotlb" ||
        message.payload?.kind !== "u64"
      )
        return undefined;
      if (message.payload.value === 0n || request.payload.type !== IOTLB_TYPE.MISS) return undefined;
      return { text: `MISS ${hex(request.payload.iova)} is answered with ${hex(message.payload.value)}` };
    },
  },
  "iotlb-without-bit33": {
    severity: "error",
    title: "IOTLB messages are sent although bit 33 was not acknowledged",
    rule: "vhost-user, VHOST_USER_IOTLB_MSG: legal if VIRTIO_F_IOMMU_PLATFORM was negotiated",
    why: "The back-end does not translate; it refuses the message or closes the session.",
    todo: "In the front-end: acknowledge bit 33 (vhost: VHOST_SET_FEATURES) before mapping anything.",
    onMessage: (look) => {
      const iotlb = iotlbOf(look);
      const { model } = look;
      if (iotlb === undefined || mayTranslate(model) || model.hasGap || model.acknowledged === undefined)
        return undefined;
      const by = senderOf(look);
      return { subject: by, text: `${typeName(iotlb.type)} of the ${by}` };
    },
  },
  "iotlb-type-misplaced": {
    severity: "error",
    title: "An IOTLB message is of a type that its sender does not send",
    rule: "vhost-user, An IOTLB message: MISS and ACCESS_FAIL from the back-end, UPDATE and INVALIDATE from the front-end; batches are vhost-vdpa's",
    why: "The receiver refuses it or takes it for something else.",
    todo: "In the sender.",
    onMessage: (look) => {
      const iotlb = iotlbOf(look);
      if (iotlb === undefined) return undefined;
      const by = senderOf(look);
      const allowed = by === "front-end" ? FROM_FRONT : FROM_BACK;
      if (allowed.includes(iotlb.type)) return undefined;
      return { subject: `${by} ${iotlb.type}`, text: `${typeName(iotlb.type)} of the ${by}` };
    },
  },
  "access-fail-sent": {
    severity: "warning",
    title: "The back-end reports a forbidden access",
    rule: "vhost-user, An IOTLB message; QEMU hw/virtio/vhost-backend.c: ACCESS_FAIL is not supported",
    why: "The guest gave the device memory that it may not access that way. QEMU answers with an error.",
    todo: "Look at the mapping's permission and at the guest's driver. A back-end does not need an answer to go on.",
    onMessage: (look) => {
      const iotlb = iotlbOf(look);
      if (iotlb?.type !== IOTLB_TYPE.ACCESS_FAIL) return undefined;
      return { text: `ACCESS_FAIL ${hex(iotlb.iova)}` };
    },
  },
  "update-outside-memory": {
    severity: "error",
    title: "An UPDATE maps to memory that the back-end does not have",
    rule: "vhost-user, IOMMU support: user address and size lie in the memory table; Linux vhost.c umem_access_ok",
    why: "The back-end refuses it, or follows the mapping to nowhere.",
    todo: "In the front-end: map only what the memory table has; split mappings at the ends of regions.",
    onMessage: (look) => {
      const iotlb = iotlbOf(look);
      const { model } = look;
      if (iotlb?.type !== IOTLB_TYPE.UPDATE || !model.memoryGiven || model.hasGap || !model.isFromStart)
        return undefined;
      const end = iotlb.userAddress + iotlb.size;
      const isInside = model.regions.some(
        ({ userAddress, size }) => iotlb.userAddress >= userAddress && end <= userAddress + size,
      );
      if (isInside) return undefined;
      return {
        subject: hex(iotlb.iova),
        text: `UPDATE of ${rangeOf(iotlb)} leads to user addresses from ${hex(iotlb.userAddress)} on`,
      };
    },
  },
  "update-empty": {
    severity: "error",
    title: "An UPDATE maps no bytes",
    rule: "Linux drivers/vhost/vhost.c vhost_chr_write_iter: EINVAL for size 0",
    why: "Linux refuses it; elsewhere the MISS that it answers goes on waiting.",
    todo: "In the front-end: a range of 2^64 bytes is written as two.",
    onMessage: (look) => {
      const iotlb = iotlbOf(look);
      if (iotlb?.type !== IOTLB_TYPE.UPDATE || iotlb.size !== 0n) return undefined;
      return { text: `UPDATE of ${hex(iotlb.iova)} with size 0` };
    },
  },
  "update-wraps": {
    severity: "error",
    title: "An UPDATE's range goes beyond 2^64",
    rule: "Linux drivers/vhost/vhost.c vhost_process_iotlb_msg; lib/iotlb: ranges are first to last",
    why: "Its last address is below its first one.",
    todo: "In the front-end: end the range at the last address.",
    onMessage: (look) => {
      const iotlb = iotlbOf(look);
      if (iotlb?.type !== IOTLB_TYPE.UPDATE || iotlb.iova + iotlb.size <= END_OF_SPACE) return undefined;
      return { text: `UPDATE of ${rangeOf(iotlb)}` };
    },
  },
  "invalidate-wraps": {
    severity: "warning",
    title: "An INVALIDATE's range goes beyond 2^64",
    rule: "Linux drivers/vhost/iotlb.c vhost_iotlb_del_range: first to last, where last is iova + size - 1",
    why: "The last address wraps below the first: nothing is unmapped, or not what was meant, and the device keeps its access.",
    todo: "In the front-end: end the range at the last address. Everything at once is iova 0 with size 0 or 2^64 - 1.",
    onMessage: (look) => {
      const iotlb = iotlbOf(look);
      if (iotlb?.type !== IOTLB_TYPE.INVALIDATE) return undefined;
      const isEmpty = iotlb.size === 0n && iotlb.iova !== 0n;
      if (!isEmpty && iotlb.iova + iotlb.size <= END_OF_SPACE) return undefined;
      return { text: `INVALIDATE of ${rangeOf(iotlb)}` };
    },
  },
  "translation-switched-under-rings": {
    severity: "error",
    title: "Translation is switched after the rings got their addresses",
    rule: "Linux drivers/vhost/vhost.c vhost_vq_invalidate_access (6.12, 7.2): a change of bit 33 forgets every ring's addresses",
    why: "The ring's addresses belong to the mode before: the kernel's vhost has none any more, others look them up in the wrong space.",
    todo: "In the front-end: send SET_FEATURES before SET_VRING_ADDR.",
    onRun: ({ model, ring }) => {
      if (ring.addresses === undefined || model.hasGap || !model.isFromStart) return undefined;
      if (ring.addressesGivenAt === model.translationSwitches) return undefined;
      const now = model.isAcknowledged(F.ACCESS_PLATFORM) ? "on" : "off";
      const text = `ring ${ring.index} runs with addresses from before SET_FEATURES switched bit 33 ${now}`;
      return { subject: ring.index, text };
    },
  },
  "translated-without-channel": {
    severity: "warning",
    title: "Rings are at I/O virtual addresses, and there is no back-end channel",
    rule: "vhost-user, IOMMU support: MISSes travel on the socket of SET_BACKEND_REQ_FD",
    why: "The back-end cannot ask for a mapping: what the front-end does not send unasked is out of reach.",
    todo: "In the back-end: offer BACKEND_REQ and REPLY_ACK. In the front-end: send SET_BACKEND_REQ_FD before the rings start.",
    onRun: ({ model, ring }): Sighting | undefined => {
      const { addresses } = ring;
      if (
        model.transport !== "vhost-user" ||
        model.channel === "given" ||
        addresses === undefined ||
        model.hasGap
      )
        return undefined;
      if (
        !mayTranslate(model) ||
        !model.isFromStart ||
        !model.memoryGiven ||
        model.classOf(addresses.desc) === "user"
      )
        return undefined;
      return {
        subject: ring.index,
        text: `ring ${ring.index} runs at ${hex(addresses.desc)}, and SET_BACKEND_REQ_FD never came`,
      };
    },
  },
  "kernel-used-ring-unmapped": {
    severity: "error",
    title: "The kernel's device is started before its used rings are mapped",
    rule: "Linux drivers/vhost/vsock.c vhost_vsock_start, vhost.c vhost_update_used_flags: through the IOTLB if bit 33 is set",
    why: "VHOST_VSOCK_SET_RUNNING fails with EFAULT: the incident of August 2022.",
    todo: "In the VMM: map each used ring before SET_RUNNING, as QEMU does, or leave bit 33 out of VHOST_SET_FEATURES.",
    onMessage: ({ message, model }) => {
      const { payload } = message;
      if (
        message.isReply ||
        message.name !== "VHOST_VSOCK_SET_RUNNING" ||
        payload?.kind !== "u64" ||
        payload.value === 0n
      )
        return undefined;
      if (!model.isAcknowledged(F.ACCESS_PLATFORM) || model.hasGap) return undefined;
      return [...model.rings.values()]
        .filter(({ addresses }) => addresses !== undefined && model.iotlb.find(addresses.used) === undefined)
        .map(({ index }) => ({
          subject: index,
          text: `VHOST_VSOCK_SET_RUNNING, and the used ring of ring ${index} is not mapped`,
        }));
    },
  },
} as const satisfies LintTable;
