/**
 * Feature bits 24 to 43 of the virtio word: rings, transports, and the two that vhost put among them.
 *
 * Bits 0 to 23 and 50 and up belong to a device type (vsock-features.ts), and since 1.4, which writes down what
 * network devices have long done, 41 and 42 as well. What a session does with a bit
 * that nobody offered is decided in acknowledge.ts. "VIRTIO" is the OASIS specification, 1.4.
 */
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
    symbol: "VHOST_F_LOG_ALL",
    toGuest: "nothing: no feature of any device, never to be offered to a guest",
    toVhostKernel: "log every page the device writes; toggled by SET_FEATURES while running",
    toVhostUser: "log every page the back-end writes, into the area of SET_LOG_BASE",
    disagreement:
      "not a feature but the VMM's switch for dirty logging, inside a word that otherwise echoes what the " +
      "guest acknowledged: the front-end adds it by itself, and a back-end must not take the SET_FEATURES " +
      "that toggles it for a new negotiation",
    history: ["a vhost bit inside the virtio word from the start"],
    source: "linux include/uapi/linux/vhost_types.h VHOST_F_LOG_ALL; vhost-user, Migration",
  },
  ANY_LAYOUT: {
    bit: 27,
    otherNames: ["VHOST_NET_F_VIRTIO_NET_HDR"],
    toGuest: "legacy: the driver may split header and data over descriptors as it likes",
    toVhostKernel:
      "accepted by every vhost device; to vhost-net it is VHOST_NET_F_VIRTIO_NET_HDR: add the packet header " +
      "on receive, strip it on transmit",
    toVhostUser: "as to the guest; a back-end that takes any layout may offer it",
    disagreement:
      "one number for a guest's freedom of layout and for vhost-net's packet header; QEMU sets it for " +
      "vhost-net by itself, if the tap has no header, and a guest's acknowledgement handed on would do the same",
    source:
      "VIRTIO, Legacy Interface: Reserved Feature Bits; linux include/uapi/linux/vhost_types.h and " +
      "drivers/vhost/net.c vhost_net_set_features; qemu hw/net/vhost_net.c",
  },
  INDIRECT_DESC: {
    bit: 28,
    formerNames: ["RING_INDIRECT_DESC"],
    otherNames: ["VIRTIO_RING_F_INDIRECT_DESC"],
    toGuest: "a descriptor may point at a table of descriptors",
    toVhostKernel: "the same",
    toVhostUser: "the same",
    history: ["RING_ left the name in VIRTIO 1.2 (virtio-spec c6f7149); Linux keeps VIRTIO_RING_F_"],
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_INDIRECT_DESC",
  },
  EVENT_IDX: {
    bit: 29,
    formerNames: ["RING_EVENT_IDX"],
    otherNames: ["VIRTIO_RING_F_EVENT_IDX"],
    toGuest: "notifications are steered by used_event and avail_event, not by flags",
    toVhostKernel: "the same",
    toVhostUser: "the same",
    history: ["RING_ left the name in VIRTIO 1.2 (virtio-spec c6f7149); Linux keeps VIRTIO_RING_F_"],
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_EVENT_IDX",
  },
  PROTOCOL_FEATURES: {
    bit: 30,
    symbol: "VHOST_USER_F_PROTOCOL_FEATURES",
    otherNames: ["VIRTIO_F_BAD_FEATURE"],
    toGuest: "reserved as UNUSED or BAD_FEATURE: devices never offer it, drivers never acknowledge it",
    toVhostKernel: "nothing: not offered",
    toVhostUser:
      "offered: GET_ and SET_PROTOCOL_FEATURES exist; acknowledged: rings wait for SET_VRING_ENABLE",
    disagreement:
      "no guest ever acknowledges it, so a front-end that hands on only what its guest took loses it and " +
      "never enables the rings, or finds them enabled too early: it has to add the bit back itself",
    history: ["QEMU tested for broken early drivers with it; vhost-user took the number over"],
    source:
      "vhost-user, Communication, VHOST_USER_F_PROTOCOL_FEATURES; VIRTIO, Legacy Interface: Reserved Feature " +
      "Bits, UNUSED (30); cloud-hypervisor issues 2662 and 3737",
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
    disagreement:
      "to the guest it is a way to allocate memory, to vhost a switch for translation, to vhost-user an " +
      "address format. A guest that bounces through restricted DMA acknowledges it and needs no translation: " +
      "handed on to vhost, its rings are looked up in an IOTLB that nobody fills (-EFAULT); hidden from a " +
      "protected guest, it makes the guest refuse the device. Only the VMM knows whether there is a vIOMMU, so only " +
      "it can say whether to translate, and this bit does not carry that",
    history: [
      "2016: vhost gets a device IOTLB, switched on by this bit (linux 6b1e6cc7855b); a bit of its own, " +
        "VHOST_F_DEVICE_IOTLB (63), is only a leftover in qemu include/hw/virtio/vhost.h",
      "2018: IOMMU_PLATFORM becomes ACCESS_PLATFORM, since it was never only about IOMMUs (virtio-spec 3c19f4b)",
      "2020: QEMU strips it for the kernel unless there is a vIOMMU; vhost-vsock begins to offer it (linux " +
        "e13a6915a03f)",
      "2022: on such kernels protected guests under crosvm lose vsock, -EFAULT from VHOST_VSOCK_SET_RUNNING; " +
        "crosvm masks the bit for kernel vhost (4e7d00be2e13)",
    ],
    source:
      "VIRTIO, Reserved Feature Bits, VIRTIO_F_ACCESS_PLATFORM; linux drivers/vhost/vsock.c " +
      "vhost_vsock_set_features; vhost-user, IOMMU support",
  },
  RING_PACKED: {
    bit: 34,
    toGuest: "the ring has the packed layout",
    toVhostKernel: "not offered by vhost-vsock",
    toVhostUser: "the same, and vring bases carry wrap counters",
    history: [
      "passed on by front-ends that compute the bases of split rings (cloud-hypervisor issue 2833), or that were " +
        "never offered it (QEMU 7.2); crosvm masks it",
    ],
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_RING_PACKED; vhost-user, vring state",
  },
  IN_ORDER: {
    bit: 35,
    toGuest: "buffers come back in the order in which they were made available",
    toVhostKernel: "not offered by vhost-vsock",
    toVhostUser: "the same",
    history: ["long offered by VMMs and ignored by Linux guests, which acknowledge it only since 7.x"],
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_IN_ORDER",
  },
  ORDER_PLATFORM: {
    bit: 36,
    formerNames: ["IO_BARRIER"],
    toGuest: "memory ordering follows the platform's rules for devices: stronger barriers in the driver",
    toVhostKernel: "not offered by vhost-vsock",
    toVhostUser: "nothing to do: both sides are CPUs of one host",
    history: [
      "2018, in drafts of VIRTIO 1.1: NOTIFICATION_DATA in March (virtio-spec 396b195), IO_BARRIER from May " +
        "(12fe939), ORDER_PLATFORM since November (3c19f4b)",
    ],
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_ORDER_PLATFORM",
  },
  SR_IOV: {
    bit: 37,
    toGuest: "PCI: the device supports single-root I/O virtualization",
    toVhostKernel: "nothing: not offered",
    toVhostUser: "nothing: the front-end owns the PCI function",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_SR_IOV",
  },
  NOTIFICATION_DATA: {
    bit: 38,
    toGuest: "available-buffer notifications carry the ring position",
    toVhostKernel: "nothing: not offered",
    toVhostUser: "the front-end's transport consumes the data; a kick eventfd carries none of it",
    history: [
      "36 in a draft of March 2018 that was reverted (virtio-spec 396b195, 09255de); 38 since (4ca1311)",
    ],
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_NOTIFICATION_DATA",
  },
  NOTIF_CONFIG_DATA: {
    bit: 39,
    toGuest: "available-buffer notifications name the queue by a value that the device chose",
    toVhostKernel: "nothing: not offered",
    toVhostUser: "the front-end's transport consumes the value; a kick eventfd carries none of it",
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_NOTIF_CONFIG_DATA",
  },
  RING_RESET: {
    bit: 40,
    toGuest: "one queue can be reset while the others run",
    toVhostKernel: "not offered by vhost-vsock; vhost-net offers it",
    toVhostUser: "no message of its own: a front-end that forwards it stops the ring with GET_VRING_BASE",
    history: ["QEMU forwards no queue reset to a vhost-user vsock device"],
    source: "VIRTIO, Reserved Feature Bits, VIRTIO_F_RING_RESET; linux drivers/vhost/net.c",
  },
  ADMIN_VQ: {
    bit: 41,
    toGuest: "PCI: the device has administration virtqueues",
    toVhostKernel: "nothing: not offered",
    toVhostUser: "nothing: the front-end owns the PCI function",
    history: ["older network devices use 41 as VIRTIO_NET_F_GUEST_RSC4, a legacy bit that VIRTIO documents"],
    source:
      "VIRTIO, Reserved Feature Bits, VIRTIO_F_ADMIN_VQ; Network Device, Legacy Interface: Feature bits",
  },
  SUSPEND_CROSVM: {
    bit: 42,
    symbol: "VIRTIO_F_SUSPEND",
    toGuest: "in crosvm only: the device can be suspended through its status",
    toVhostKernel: "nothing: not offered",
    toVhostUser: "nothing: the front-end suspends a device by stopping its rings",
    disagreement:
      "crosvm and the specification call different numbers VIRTIO_F_SUSPEND, 42 and 43; VIRTIO leaves 42 to " +
      "the device type, where a network device has VIRTIO_NET_F_GUEST_RSC6",
    history: ["crosvm took 42 for SUSPEND; VIRTIO assigned 43 in 2025 (virtio-spec f219fef)"],
    nonstandard: true,
    source: "crosvm virtio_sys/src/virtio_config.rs; virtio-spec b1d6ef6",
  },
  SUSPEND: {
    bit: 43,
    toGuest: "the device can be suspended through its status",
    toVhostKernel: "nothing: not offered",
    toVhostUser: "nothing: the front-end suspends a device by stopping its rings",
    history: ["new in VIRTIO 1.4 (virtio-spec f219fef); crosvm uses bit 42 for the same feature"],
    source: "VIRTIO 1.4, Reserved Feature Bits, VIRTIO_F_SUSPEND",
  },
} as const satisfies FeatureTable;

/** Bit numbers of the ring and transport features: `F.ACCESS_PLATFORM` is 33. */
export const F = bitNumbers(TRANSPORT_FEATURES);
