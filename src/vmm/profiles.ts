/** Two front-ends for the demo and for tests, until the profiles are files. */

import type { VmmProfile } from "../profiles/vmm-profile.js";
import { F, maskOf, PROTOCOL_F, VSOCK_F } from "../virtio/index.js";

/** QEMU 7.2: masks bit 33 unless there really is a vIOMMU, and then passes it whatever the back-end offered. */
export const QEMU: VmmProfile = {
  name: "qemu-7.2",
  kind: "vmm",
  transport: "vhost-user",
  program: "QEMU 7.2",
  evidence: "derived",
  machine: { viommu: true, protectedMemory: true },
  asksDevice: "before-guest",
  backendFeatures: 0n,
  backendChannel: "at-initialization",
  resetsDevice: false,
  ringAddresses: "user",
  refuses: [],
  earlyRings: ["call", "err"],
  order: [
    ["call"],
    "features",
    "status",
    "memory",
    ["num", "base", "addr", "kick"],
    ["enable"],
    "used-rings",
    ["call"],
  ],
  needReply: ["channel", "memory"],
  iotlb: {
    serves: true,
    translates: "behind-viommu",
    enables: "nothing",
    enablesBit: undefined,
    invalidates: "always",
    unexpectedMiss: "ignored",
  },
  summary: "offers bit 33 if told to, masks it towards the back-end unless a vIOMMU translates",
  source: ["QEMU 7.2 hw/virtio/vhost.c, vhost-user.c, vhost-user-vsock.c; recorded sessions"],
  offer: {
    // user_feature_bits and feature_bits: what the back-end lacks of these, the guest does not get.
    passed: maskOf(F.VERSION_1, F.INDIRECT_DESC, F.EVENT_IDX, F.NOTIFY_ON_EMPTY, VSOCK_F.VSOCK_SEQPACKET),
    own: 0n,
    bit33: "by-option",
  },
  acknowledge: { maskedByDevice: false, adds: 0n, masks: 0n, bit33: "behind-viommu" },
  // VHOST_USER_PROTOCOL_FEATURE_MASK of 7.2: every bit below 18, implemented or not (recorded: 0x1b62b).
  protocolFeatures: (1n << 18n) - 1n,
  queues: 2,
  configFlags: 0,
};

/**
 * A VMM like crosvm's vhost-user front-end: hands the back-end's bit 33 to a protected guest, hands the guest's
 * acknowledgement back, and has no IOTLB messages at all.
 */
export const CROSVM: VmmProfile = {
  name: "crosvm-vhost-user",
  kind: "vmm",
  transport: "vhost-user",
  program: "crosvm",
  evidence: "derived",
  machine: { viommu: false, protectedMemory: true },
  asksDevice: "before-guest",
  backendFeatures: 0n,
  backendChannel: "at-initialization",
  resetsDevice: false,
  ringAddresses: "user",
  refuses: [],
  earlyRings: [],
  order: ["features", "memory", ["num", "addr", "base", "call", "kick", "enable"]],
  needReply: [],
  iotlb: {
    serves: false,
    translates: "behind-viommu",
    enables: "nothing",
    enablesBit: undefined,
    invalidates: "never",
    unexpectedMiss: "dies",
  },
  summary: "passes bit 33 from the back-end to a protected guest and back, and never sends an IOTLB message",
  source: ["crosvm devices/src/virtio/vhost_user_frontend/mod.rs at f1e797a68"],
  offer: {
    // crosvm's base_features; INDIRECT_DESC is not among them.
    passed: maskOf(F.VERSION_1, F.EVENT_IDX, VSOCK_F.VSOCK_SEQPACKET),
    own: 0n,
    bit33: "if-protected-and-offered",
  },
  acknowledge: { maskedByDevice: false, adds: 0n, masks: 0n, bit33: "always" },
  protocolFeatures: maskOf(
    PROTOCOL_F.CONFIG,
    PROTOCOL_F.MQ,
    PROTOCOL_F.BACKEND_REQ,
    PROTOCOL_F.DEVICE_STATE,
    PROTOCOL_F.SHMEM,
    PROTOCOL_F.REPLY_ACK,
  ),
  queues: 3,
  configFlags: 1,
};
