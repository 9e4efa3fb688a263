// Feature bits 24 to 43 of the virtio word: rings, transports, and the two that vhost put among them.
//
// Bits 0 to 23 and 50 and up belong to a device type (vsock-features.ts). What a session does with a bit
// that nobody offered is decided in acknowledge.ts. "VIRTIO" is the OASIS specification, 1.4.
import { bitNumbers, type FeatureTable } from "./record.js";

/** Records of the ring and transport bits, by name without `VIRTIO_F_`, `VIRTIO_RING_F_` or `VHOST_F_`. */
export const TRANSPORT_FEATURES = {
  NOTIFY_ON_EMPTY: {
    bit: 24,
    toGuest: "legacy: the device notifies when it runs out of buffers, even if notifications are suppressed",
    toVhostKernel: "honoured; offered by every vhost device",
    toVhostUser: "honoured by some back-ends, a hint at most",
    source: "VIRTIO, Legacy Interface: Reserved Feature Bits; linux drivers/vhost/vhost.h VHOST_FEATURES",
  },
  LOG_ALL: {
    bit: 26,
    toVhostKernel: "log every page the device writes; toggled by SET_FEATURES while running",
    toVhostUser: "log every page the back-end writes, into the area of SET_LOG_BASE",
    history: "a vhost bit inside the virtio word: guests must never see it",
    source: "linux include/uapi/linux/vhost.h VHOST_F_LOG_ALL; vhost-user, Migration",
  },
  ANY_LAYOUT: {
    bit: 27,
    toGuest: "legacy: the driver may split header and data over descriptors as it likes",
    toVhostKernel: "accepted; offered by every vhost device",
    source: "VIRTIO, Legacy Interface: Reserved Feature Bits",
  },
  INDIRECT_DESC: {
    bit: 28,
    toGuest: "a descriptor may point at a table of descriptors",
    toVhostKernel: "the same",
    toVhostUser: "the same",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_INDIRECT_DESC",
  },
  EVENT_IDX: {
    bit: 29,
    toGuest: "notifications are steered by used_event and avail_event, not by flags",
    toVhostKernel: "the same",
    toVhostUser: "the same",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_EVENT_IDX",
  },
  PROTOCOL_FEATURES: {
    bit: 30,
    formerNames: ["VIRTIO_F_BAD_FEATURE"],
    toGuest: "reserved as UNUSED or BAD_FEATURE: devices never offer it, drivers never acknowledge it",
    toVhostUser:
      "offered: GET_ and SET_PROTOCOL_FEATURES exist; acknowledged: rings wait for SET_VRING_ENABLE",
    history: "a front-end has to add it itself, since no guest acknowledges it",
    source: "vhost-user, Communication, VHOST_USER_F_PROTOCOL_FEATURES",
  },
  VERSION_1: {
    bit: 32,
    toGuest: "not a legacy device: little-endian, modern layouts",
    toVhostKernel: "the same",
    toVhostUser: "the same",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_VERSION_1",
  },
  ACCESS_PLATFORM: {
    bit: 33,
    formerNames: ["IOMMU_PLATFORM"],
    toGuest: "use the platform's DMA API: device access may be limited, or translated, or both",
    toVhostKernel: "acknowledged: turn the device IOTLB on, empty, and look every address up in it",
    toVhostUser: "as documented: ring addresses are IOVAs and IOTLB messages are legal",
    history:
      "named IOMMU_PLATFORM until VIRTIO 1.1; since linux e13a6915a03f vhost-vsock takes it as 'IOTLB on', " +
      "which broke guests that use the DMA API without an IOMMU (crosvm 4e7d00be2e13)",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_ACCESS_PLATFORM; vhost-user, IOMMU support",
  },
  RING_PACKED: {
    bit: 34,
    toGuest: "the ring has the packed layout",
    toVhostKernel: "not offered by vhost-vsock",
    toVhostUser: "the same, and vring bases carry wrap counters",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_RING_PACKED",
  },
  IN_ORDER: {
    bit: 35,
    toGuest: "buffers come back in the order in which they were made available",
    toVhostKernel: "not offered by vhost-vsock",
    toVhostUser: "the same",
    history: "long offered by VMMs and ignored by Linux guests, which acknowledge it only since 7.x",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_IN_ORDER",
  },
  ORDER_PLATFORM: {
    bit: 36,
    toGuest: "memory ordering follows the platform's rules for devices: stronger barriers in the driver",
    toVhostUser: "nothing to do: both sides are CPUs of one host",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_ORDER_PLATFORM",
  },
  SR_IOV: {
    bit: 37,
    toGuest: "PCI: the device supports single-root I/O virtualization",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_SR_IOV",
  },
  NOTIFICATION_DATA: {
    bit: 38,
    toGuest: "available-buffer notifications carry the ring position",
    toVhostUser: "the front-end's transport consumes the data; a kick eventfd carries none of it",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_NOTIFICATION_DATA",
  },
  NOTIF_CONFIG_DATA: {
    bit: 39,
    toGuest: "available-buffer notifications name the queue by a value that the device chose",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_NOTIF_CONFIG_DATA",
  },
  RING_RESET: {
    bit: 40,
    toGuest: "one queue can be reset while the others run",
    toVhostUser: "no message of its own: a front-end that forwards it stops the ring with GET_VRING_BASE",
    history: "QEMU forwards no queue reset to a vhost-user vsock device",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_RING_RESET",
  },
  ADMIN_VQ: {
    bit: 41,
    toGuest: "PCI: the device has administration virtqueues",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_ADMIN_VQ",
  },
  SUSPEND_CROSVM: {
    bit: 42,
    formerNames: ["VIRTIO_F_SUSPEND in crosvm"],
    toGuest: "in crosvm only: the device can be suspended through its status",
    history: "crosvm took 42 for SUSPEND, the specification assigned 43",
    nonstandard: true,
    source: "crosvm virtio_sys/src/virtio_config.rs",
  },
  SUSPEND: {
    bit: 43,
    toGuest: "the device can be suspended through its status",
    history: "crosvm uses bit 42 for the same feature",
    source: "VIRTIO 1.4, Reserved Feature Bits, VIRTIO_F_SUSPEND",
  },
} as const satisfies FeatureTable;

/** Bit numbers of the ring and transport features: `F.ACCESS_PLATFORM` is 33. */
export const F = bitNumbers(TRANSPORT_FEATURES);
