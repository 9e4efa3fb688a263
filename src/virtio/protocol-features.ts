/**
 * The vhost-user protocol features: what GET_ and SET_PROTOCOL_FEATURES carry.
 *
 * Which messages each of them makes legal is in src/vhost/wire/messages.ts. The explicit IOTLB is our draft
 * (docs/explicit-iotlb.md) and has no assigned number: its record is made for the number configured.
 */
import { bitNumbers, type FeatureRecord, type FeatureTable } from "./record.js";

const DOCUMENT = "vhost-user, Protocol features";

/** Records of the protocol features, by name without `VHOST_USER_PROTOCOL_F_`. */
export const PROTOCOL_FEATURES = {
  MQ: { bit: 0, toVhostUser: "GET_QUEUE_NUM: the most queues the back-end supports", source: DOCUMENT },
  LOG_SHMFD: {
    bit: 1,
    toVhostUser: "the dirty log is shared memory, given with SET_LOG_BASE, which then replies",
    source: DOCUMENT,
  },
  RARP: { bit: 2, toVhostUser: "SEND_RARP after a migration", source: DOCUMENT },
  REPLY_ACK: { bit: 3, toVhostUser: "NEED_REPLY asks for a u64 answer, 0 for success", source: DOCUMENT },
  MTU: {
    bit: 4,
    otherNames: ["NET_MTU"],
    toVhostUser: "NET_SET_MTU: the MTU that the guest's network device announces",
    source: `${DOCUMENT}; NET_MTU in qemu include/hw/virtio/vhost-user.h`,
  },
  BACKEND_REQ: {
    bit: 5,
    formerNames: ["SLAVE_REQ"],
    toVhostUser: "SET_BACKEND_REQ_FD: a second socket for requests of the back-end",
    history: [
      "SLAVE_ in documents and programs until 2023",
      "IOTLB misses travel there: QEMU refuses a back-end that offers bit 33 without this and REPLY_ACK",
    ],
    source: DOCUMENT,
  },
  CROSS_ENDIAN: { bit: 6, toVhostUser: "SET_VRING_ENDIAN for legacy devices", source: DOCUMENT },
  CRYPTO_SESSION: { bit: 7, toVhostUser: "CREATE_ and CLOSE_CRYPTO_SESSION", source: DOCUMENT },
  PAGEFAULT: { bit: 8, toVhostUser: "postcopy migration through userfaultfd", source: DOCUMENT },
  CONFIG: {
    bit: 9,
    toVhostUser: "GET_CONFIG, SET_CONFIG; QEMU refuses a vsock back-end without it",
    source: `${DOCUMENT}; qemu hw/virtio/vhost-user.c`,
  },
  BACKEND_SEND_FD: {
    bit: 10,
    formerNames: ["SLAVE_SEND_FD"],
    toVhostUser: "requests of the back-end may carry descriptors, at most 8 each",
    source: DOCUMENT,
  },
  HOST_NOTIFIER: {
    bit: 11,
    toVhostUser: "VRING_HOST_NOTIFIER_MSG: doorbells mapped into the guest",
    source: DOCUMENT,
  },
  INFLIGHT_SHMFD: {
    bit: 12,
    toVhostUser: "GET_ and SET_INFLIGHT_FD: what is in flight outlives the back-end",
    source: DOCUMENT,
  },
  RESET_DEVICE: {
    bit: 13,
    toVhostUser: "RESET_DEVICE: back to the initial state, ownership kept",
    source: DOCUMENT,
  },
  INBAND_NOTIFICATIONS: {
    bit: 14,
    toVhostUser: "VRING_KICK, VRING_CALL and VRING_ERR as messages; needs REPLY_ACK and BACKEND_REQ",
    source: `${DOCUMENT}; In-band notifications`,
  },
  CONFIGURE_MEM_SLOTS: {
    bit: 15,
    toVhostUser: "GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG",
    source: DOCUMENT,
  },
  STATUS: { bit: 16, toVhostUser: "GET_STATUS, SET_STATUS: the device status byte", source: DOCUMENT },
  XEN_MMAP: {
    bit: 17,
    toVhostUser: "memory regions carry Xen mapping flags and a domain id (40 bytes, not 32)",
    disagreement:
      "QEMU 10.0 acknowledges it wherever it is offered and does not implement it: the two then disagree about " +
      "the size of every entry of the memory table",
    source: DOCUMENT,
  },
  SHARED_OBJECT: { bit: 18, toVhostUser: "dma-buf objects shared by UUID", source: DOCUMENT },
  DEVICE_STATE: {
    bit: 19,
    toVhostUser: "SET_DEVICE_STATE_FD, CHECK_DEVICE_STATE: state for migration",
    source: DOCUMENT,
  },
  GET_VRING_BASE_INFLIGHT: {
    bit: 20,
    toVhostUser: "GET_VRING_BASE with num 1 records what is in flight; only with INFLIGHT_SHMFD",
    history: ["drafts of SHMEM used this number; QEMU gave it to this feature in 2026"],
    source: DOCUMENT,
  },
  GPA_ADDRESSES: {
    bit: 21,
    toVhostUser: "ring addresses and user addresses of messages are guest-physical",
    disagreement:
      "the vhost crate 0.16 used 21 for SHMEM: such a back-end claims GPA_ADDRESSES to QEMU 11.1 and then gets " +
      "guest addresses where it expects user addresses",
    history: [
      "SHMEM in the vhost crate 0.16 (still in alioth); GPA_ADDRESSES in the document (qemu be51b7177c)",
    ],
    source: `${DOCUMENT}; qemu be51b7177c; rust-vmm/vhost#367`,
  },
  SHMEM: {
    bit: 22,
    otherNames: ["SHMEM_MAP"],
    toVhostUser: "GET_SHMEM_CONFIG, SHMEM_MAP, SHMEM_UNMAP: VIRTIO shared memory regions",
    history: ["20 in drafts, 21 in the vhost crate 0.16 and in alioth, 22 in the document"],
    source: `${DOCUMENT}; rust-vmm/vhost#367; crosvm 8ae81e773`,
  },
  GET_VRING_BASE_SKIP_DRAIN: {
    bit: 23,
    toVhostUser: "GET_VRING_BASE_SKIP_DRAIN: stop a ring without waiting for what is in flight",
    source: "qemu include/hw/virtio/vhost-user.h (1276e6c85dcc)",
  },
} as const satisfies FeatureTable;

/** Bit numbers of the protocol features: `PROTOCOL_F.REPLY_ACK` is 3. */
export const PROTOCOL_F = bitNumbers(PROTOCOL_FEATURES);

/** Where the experimental VHOST_USER_PROTOCOL_F_IOTLB sits unless configured otherwise. Our choice. */
export const DEFAULT_EXPLICIT_IOTLB_BIT = 62;

/** The name under which the experimental bit is described, whatever its number. */
export const EXPLICIT_IOTLB_NAME = "IOTLB";

/** The record of the experimental explicit IOTLB at the configured number. */
export function explicitIotlbRecord(
  bit: number = DEFAULT_EXPLICIT_IOTLB_BIT,
): FeatureRecord & { readonly symbol: string } {
  return {
    bit,
    symbol: "VHOST_USER_PROTOCOL_F_IOTLB",
    toVhostUser: "experimental: its negotiation alone turns translation on; bit 33 has no say",
    nonstandard: true,
    source: "docs/explicit-iotlb.md",
  };
}

/** Why the explicit IOTLB cannot sit at `bit`, or undefined if it can. */
export function explicitIotlbBitProblem(bit: number): string | undefined {
  if (!Number.isInteger(bit) || bit < 0 || bit > 63) return "a protocol feature bit is a number from 0 to 63";
  const taken = Object.entries(PROTOCOL_FEATURES).find(([, record]) => record.bit === bit);
  if (taken !== undefined) return `bit ${bit} is VHOST_USER_PROTOCOL_F_${taken[0]}`;
  return undefined;
}
