/**
 * The front-ends that are played here: each as its source does it. More of them, and their histories, belong to the
 * compatibility matrix.
 */
import { F, maskOf, PROTOCOL_F, VSOCK_F } from "../virtio/index.js";
import type { FrontEndProfile } from "./profile.js";

/** QEMU 7.2: masks bit 33 unless there really is a vIOMMU, and then passes it whatever the back-end offered. */
export const QEMU: FrontEndProfile = {
  name: "qemu-7.2",
  summary: "offers bit 33 if told to, masks it towards the back-end unless a vIOMMU translates",
  source: "QEMU 7.2 hw/virtio/vhost.c, vhost-user.c, vhost-user-vsock.c; recorded sessions",
  offer: {
    // user_feature_bits and feature_bits: what the back-end lacks of these, the guest does not get.
    passed: maskOf(F.VERSION_1, F.INDIRECT_DESC, F.EVENT_IDX, F.NOTIFY_ON_EMPTY, VSOCK_F.VSOCK_SEQPACKET),
    bit33: "by-option",
  },
  acknowledge: { bit33: "behind-viommu" },
  // VHOST_USER_PROTOCOL_FEATURE_MASK of 7.2: every bit below 18, implemented or not (recorded: 0x1b62b).
  protocolFeatures: (1n << 18n) - 1n,
  opensBackendChannel: true,
  servesIotlb: true,
  queues: 2,
  tellsStatus: true,
  configFlags: 0,
};

/**
 * A VMM like crosvm's vhost-user front-end: hands the back-end's bit 33 to a protected guest, hands the guest's
 * acknowledgement back, and has no IOTLB messages at all.
 */
export const CROSVM: FrontEndProfile = {
  name: "crosvm",
  summary: "passes bit 33 from the back-end to a protected guest and back, and never sends an IOTLB message",
  source: "crosvm devices/src/virtio/vhost_user_frontend/mod.rs at f1e797a68",
  offer: {
    // crosvm's base_features; INDIRECT_DESC is not among them.
    passed: maskOf(F.VERSION_1, F.EVENT_IDX, VSOCK_F.VSOCK_SEQPACKET),
    bit33: "if-protected-and-offered",
  },
  acknowledge: { bit33: "always" },
  protocolFeatures: maskOf(
    PROTOCOL_F.CONFIG,
    PROTOCOL_F.MQ,
    PROTOCOL_F.BACKEND_REQ,
    PROTOCOL_F.DEVICE_STATE,
    PROTOCOL_F.SHMEM,
    PROTOCOL_F.REPLY_ACK,
  ),
  opensBackendChannel: true,
  servesIotlb: false,
  queues: 3,
  tellsStatus: false,
  configFlags: 1,
};
