/**
 * Lints on the virtio feature word: what is acknowledged without an offer, what only makes sense together, and bits whose number
 * or meaning moved. What each bit is comes from src/virtio.
 */
import { bitsOf, F, has, maskOf, PROTOCOL_F, STATUS, virtioFeature, without } from "../../virtio/index.js";
import { type LintTable, type MessageLook, replyOf, requestOf, type Sighting, wordOf } from "./lint.js";
import { protocolName, protocolOffer } from "./protocol-lints.js";

const NAMED_APART = maskOf(F.ACCESS_PLATFORM, F.RING_PACKED, F.LOG_ALL);

/** The word of SET_FEATURES, if this is one and an offer was seen before. */
function acknowledgedNow(look: MessageLook): { word: bigint; unoffered: bigint } | undefined {
  const payload = requestOf(look, "SET_FEATURES");
  const { offered, hasGap } = look.model;
  if (payload?.kind !== "u64" || offered === undefined || hasGap) return undefined;
  return { word: payload.value, unoffered: payload.value & ~offered };
}

function unoffered(look: MessageLook, bit: number, text: string): Sighting | undefined {
  const now = acknowledgedNow(look);
  return now !== undefined && has(now.unoffered, bit) ? { text } : undefined;
}

function name(bit: number): string {
  return `${virtioFeature(bit)?.name ?? "an unnamed bit"} (${bit})`;
}

const KNOWS_THE_SUBSET =
  'VIRTIO, Feature Bits: the driver "MUST NOT accept a feature which the device did not offer"; vhost-user, ' +
  "VHOST_USER_SET_FEATURES";

export const FEATURE_LINTS = {
  "feature-not-offered": {
    severity: "warning",
    title: "A feature bit is acknowledged that the back-end did not offer",
    rule: KNOWS_THE_SUBSET,
    why:
      "The guest acknowledged an offer of the front-end that the back-end knows nothing of. rust-vmm's back-ends answer " +
      "InvalidParam and close; others ignore the bit, and the guest then relies on what nobody does.",
    todo: "In the front-end: mask what the guest is offered by GET_FEATURES, before the guest negotiates.",
    onMessage: (look) => {
      const now = acknowledgedNow(look);
      return bitsOf((now?.unoffered ?? 0n) & ~NAMED_APART).map((bit) => ({
        subject: bit,
        text: `SET_FEATURES acknowledges ${name(bit)}, which GET_FEATURES did not offer`,
      }));
    },
  },
  "access-platform-not-offered": {
    severity: "warning",
    title: "Bit 33 is acknowledged although the back-end did not offer it",
    rule: `${KNOWS_THE_SUBSET}; QEMU hw/virtio/vhost-user-vsock.c user_feature_bits does not list the bit`,
    why:
      "QEMU's vhost-user-vsock passes the bit on behind a vIOMMU whatever the back-end offered, and sends I/O virtual " +
      "ring addresses: a back-end without an IOTLB cannot work there. rust-vmm's close the session.",
    todo: "Use a back-end that has an IOTLB, or take the vIOMMU away from the device (no iommu_platform=on).",
    onMessage: (look) =>
      unoffered(
        look,
        F.ACCESS_PLATFORM,
        "SET_FEATURES acknowledges ACCESS_PLATFORM (33), which was not offered",
      ),
  },
  "ring-packed-not-offered": {
    severity: "error",
    title: "Packed rings are acknowledged although the back-end did not offer them",
    rule: `${KNOWS_THE_SUBSET}; VIRTIO, Packed Virtqueues`,
    why: "The guest lays its rings out as packed ones; a back-end that reads them as split rings takes garbage for addresses.",
    todo: "Switch packed rings off at the front-end (QEMU: packed=off), or use a back-end that offers them.",
    onMessage: (look) =>
      unoffered(look, F.RING_PACKED, "SET_FEATURES acknowledges RING_PACKED (34), which was not offered"),
  },
  "log-all-not-offered": {
    severity: "error",
    title: "Dirty logging is switched on at a back-end that did not offer it",
    rule: "vhost-user, Migration: VHOST_F_LOG_ALL is set if the back-end has it",
    why: "Whoever sets it believes that written pages are logged: a migration loses what the device wrote.",
    todo: "In the front-end: refuse to migrate without VHOST_F_LOG_ALL in GET_FEATURES.",
    onMessage: (look) => unoffered(look, F.LOG_ALL, "SET_FEATURES has LOG_ALL (26), which was not offered"),
  },
  "features-before-offer": {
    severity: "warning",
    title: "Features are acknowledged before anybody asked what is offered",
    rule: "VIRTIO, Device Initialization: the driver reads the feature bits, then writes the subset it understands",
    why: "The guest cannot have been offered what the back-end has: it may hold bits that the back-end lacks.",
    todo: "In the front-end: send GET_FEATURES before the guest negotiates.",
    onMessage: (look) => {
      const { model } = look;
      if (requestOf(look, "SET_FEATURES") === undefined || model.offered !== undefined) return undefined;
      if (model.hasGap || !model.isFromStart || model.unseen.has("GET_FEATURES")) return undefined;
      return { text: "SET_FEATURES comes before any GET_FEATURES" };
    },
  },
  "bit33-needs-channel": {
    severity: "warning",
    title: "Bit 33 is offered without REPLY_ACK and BACKEND_REQ",
    rule: "vhost-user, IOMMU support; QEMU hw/virtio/vhost-user.c vhost_user_backend_init",
    why:
      'QEMU refuses the device: "IOMMU support requires reply-ack and backend-req protocol features", even where there ' +
      "is no vIOMMU. A translating back-end has no way to ask for a mapping.",
    todo: "In the back-end: offer both protocol features, or leave bit 33 out of the offer.",
    onMessage: (look) => {
      const { offered } = look.model;
      if (offered === undefined || !has(offered, F.ACCESS_PLATFORM)) return undefined;
      const protocol = protocolOffer(look);
      if (protocol === undefined) return undefined;
      const missing = [PROTOCOL_F.REPLY_ACK, PROTOCOL_F.BACKEND_REQ].filter((bit) => !has(protocol, bit));
      if (missing.length === 0) return undefined;
      return { text: `ACCESS_PLATFORM (33) is offered, ${missing.map(protocolName).join(" and ")} is not` };
    },
  },
  "bit33-not-offered": {
    severity: "info",
    title: "Bit 33 is not offered",
    rule: "VIRTIO, VIRTIO_F_ACCESS_PLATFORM; Linux drivers/virtio/virtio.c virtio_features_ok",
    why:
      "A front-end that offers its guest only what the back-end offers (crosvm) then hides the bit from a protected " +
      "guest, which skips the DMA API and hands out private memory; confidential guests refuse the device.",
    todo: "Nothing for plain guests. For protected ones the back-end has to offer the bit, without taking it for an IOTLB.",
    onMessage: (look) => {
      const word = wordOf(replyOf(look, "GET_FEATURES"));
      if (word === undefined || has(word, F.ACCESS_PLATFORM)) return undefined;
      return { text: "GET_FEATURES offers no ACCESS_PLATFORM (33)" };
    },
  },
  "protocol-features-dropped": {
    severity: "info",
    title: "Bit 30 is not acknowledged although protocol features are in use",
    rule: "vhost-user, Ring states: without VHOST_USER_F_PROTOCOL_FEATURES rings start enabled",
    why:
      "Guests never acknowledge bit 30, so a front-end that hands their word on drops it: rings run as soon as they are " +
      "started, and SET_VRING_ENABLE is not legal.",
    todo: "In the front-end: add bit 30 to SET_FEATURES if the back-end offered it.",
    onMessage: (look) => {
      const word = wordOf(requestOf(look, "SET_FEATURES"));
      if (word === undefined || look.model.protocolAcknowledged === undefined) return undefined;
      if (has(word, F.PROTOCOL_FEATURES)) return undefined;
      return { text: "SET_FEATURES lacks PROTOCOL_FEATURES (30) after SET_PROTOCOL_FEATURES" };
    },
  },
  "features-changed-while-running": {
    severity: "warning",
    title: "Features change while rings run",
    rule: "vhost-user, VHOST_USER_SET_FEATURES; VIRTIO, Feature Bits: no renegotiation without a reset; LOG_ALL excepted",
    why: "Back-ends reset their rings at SET_FEATURES, or go on with layouts that no longer hold.",
    todo: "In the front-end: stop every ring with GET_VRING_BASE first. Only LOG_ALL may change at any time.",
    onMessage: (look) => {
      const word = wordOf(requestOf(look, "SET_FEATURES"));
      const { model } = look;
      if (word === undefined || model.acknowledged === undefined || model.runningRings.length === 0)
        return undefined;
      const changed = without(word ^ model.acknowledged, F.LOG_ALL);
      return changed === 0n
        ? undefined
        : { text: `SET_FEATURES changes ${bitsOf(changed).map(name).join(", ")}` };
    },
  },
  "log-all-toggled": {
    severity: "info",
    title: "Dirty logging is switched while rings run",
    rule: "vhost-user, Migration; linux include/uapi/linux/vhost_types.h VHOST_F_LOG_ALL",
    why: "Legal: a migration begins or ends. A back-end that takes every SET_FEATURES for a new negotiation resets its rings.",
    todo: "In the back-end: look whether anything but LOG_ALL changed.",
    onMessage: (look) => {
      const word = wordOf(requestOf(look, "SET_FEATURES"));
      const { model } = look;
      if (word === undefined || model.acknowledged === undefined || model.runningRings.length === 0)
        return undefined;
      if (!has(word ^ model.acknowledged, F.LOG_ALL)) return undefined;
      return { text: `SET_FEATURES switches LOG_ALL (26) ${has(word, F.LOG_ALL) ? "on" : "off"}` };
    },
  },
  "in-order-acknowledged": {
    severity: "info",
    title: "IN_ORDER is acknowledged",
    rule: "VIRTIO, VIRTIO_F_IN_ORDER; Linux drivers/virtio/virtio_ring.c vring_transport_features: since 7.x, not in 6.12",
    why:
      "Back-ends have offered it for years to guests that never took it (firecracker, cloud-hypervisor, libkrun): that they " +
      "really use buffers in order is tested by new guests only.",
    todo: "If data goes wrong with a new guest only: mask the bit, and see whether that helps.",
    onMessage: (look) => {
      const now = acknowledgedNow(look);
      return now !== undefined && has(now.word & ~now.unoffered, F.IN_ORDER)
        ? { text: "SET_FEATURES acknowledges IN_ORDER (35)" }
        : undefined;
    },
  },
  "version-1-missing": {
    severity: "info",
    title: "VERSION_1 is offered and not acknowledged",
    rule: "VIRTIO, VIRTIO_F_VERSION_1",
    why: "The guest drives a legacy device: other layouts, guest-endian fields.",
    todo: "Nothing, if the guest is that old. Otherwise look at what the front-end masks.",
    onMessage: (look) => {
      const now = acknowledgedNow(look);
      if (now === undefined || has(now.word, F.VERSION_1) || !has(look.model.offered ?? 0n, F.VERSION_1))
        return undefined;
      return { text: "SET_FEATURES lacks VERSION_1 (32)" };
    },
  },
  "suspend-bit-moved": {
    severity: "warning",
    title: "Bit 42 is in use, which only crosvm takes for SUSPEND",
    rule: "VIRTIO 1.4, Reserved Feature Bits: VIRTIO_F_SUSPEND is 43; crosvm virtio_sys/src/virtio_config.rs: 42",
    why: "In VIRTIO 1.4 the bit belongs to the device type. Each side takes the other's word for something else.",
    todo: "In crosvm, or in what copied it: use 43. To any other back-end: do not offer 42.",
    onMessage: (look) => {
      const word = wordOf(replyOf(look, "GET_FEATURES")) ?? wordOf(requestOf(look, "SET_FEATURES"));
      if (word === undefined || !has(word, F.SUSPEND_CROSVM)) return undefined;
      const who = look.message.isReply ? "GET_FEATURES offers" : "SET_FEATURES acknowledges";
      return { text: `${who} bit ${F.SUSPEND_CROSVM}`, subject: who };
    },
  },
  "log-all-without-base": {
    severity: "warning",
    title: "Dirty logging was switched on, and no log was ever given",
    rule: "vhost-user, Migration: SET_LOG_BASE gives the memory that VHOST_F_LOG_ALL logs to",
    why: "Nothing is logged: a migration loses what the device wrote.",
    todo: "In the front-end: send SET_LOG_BASE before the device runs with LOG_ALL.",
    onEnd: ({ model }) => {
      if (!has(model.everAcknowledged, F.LOG_ALL) || model.logBaseGiven || model.hasGap) return undefined;
      return { text: "SET_FEATURES had LOG_ALL (26), and SET_LOG_BASE never came" };
    },
  },
  "status-failed": {
    severity: "warning",
    title: "The guest's driver gave the device up",
    rule: "VIRTIO, Device Status Field: FAILED (128)",
    why: "Something went wrong in the guest; its kernel log says what.",
    todo: "Look at the guest's kernel log, and at the findings before this one.",
    onMessage: (look) => {
      const word = wordOf(requestOf(look, "SET_STATUS"));
      if (word === undefined || (word & BigInt(STATUS.FAILED)) === 0n) return undefined;
      return { text: "SET_STATUS has FAILED" };
    },
  },
  "features-ok-not-kept": {
    severity: "warning",
    title: "The back-end does not keep FEATURES_OK",
    rule: "VIRTIO, Device Initialization: a device that cannot take the features leaves FEATURES_OK unset",
    why: "The back-end refuses what SET_FEATURES acknowledged.",
    todo: "Compare SET_FEATURES with GET_FEATURES; the back-end's log may say which bit.",
    onMessage: (look) => {
      const word = wordOf(replyOf(look, "GET_STATUS"));
      const { status } = look.model;
      const featuresOk = BigInt(STATUS.FEATURES_OK);
      if (word === undefined || status === undefined) return undefined;
      if ((status & featuresOk) === 0n || (word & featuresOk) !== 0n) return undefined;
      return { text: "GET_STATUS answers without FEATURES_OK, which SET_STATUS had set" };
    },
  },
} as const satisfies LintTable;
