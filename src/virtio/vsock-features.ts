/**
 * The vsock device type: its feature bits, queues, configuration space and reserved context ids.
 *
 * It knows nothing of packets (src/vsock) or of how a configuration read arrives (src/vhost).
 */
import { defineLayout, encodeStruct } from "./layout.js";
import { bitNumbers, type FeatureTable } from "./record.js";

/** Records of the vsock feature bits, by name without `VIRTIO_VSOCK_F_`. */
export const VSOCK_FEATURES = {
  VSOCK_STREAM: {
    bit: 0,
    symbol: "VIRTIO_VSOCK_F_STREAM",
    toGuest: "stream sockets; Linux never acknowledges it, and with no bit acknowledged stream is implied",
    toVhostKernel: "not offered: stream sockets are always served",
    toVhostUser: "stream sockets, which a back-end serves whether or not it offers the bit",
    source: "VIRTIO, Socket Device, Feature bits; linux net/vmw_vsock/virtio_transport.c",
  },
  VSOCK_SEQPACKET: {
    bit: 1,
    symbol: "VIRTIO_VSOCK_F_SEQPACKET",
    toGuest: "sockets that keep message boundaries",
    toVhostKernel: "the same; hidden from guests by crosvm, which lists no device bits for it",
    toVhostUser: "the same",
    source: "VIRTIO, Socket Device, Feature bits; linux drivers/vhost/vsock.c",
  },
  VSOCK_NO_IMPLIED_STREAM: {
    bit: 2,
    symbol: "VIRTIO_VSOCK_F_NO_IMPLIED_STREAM",
    toGuest: "stream is not implied by the absence of its own bit; Linux never acknowledges it",
    toVhostKernel: "not offered",
    toVhostUser: "the same",
    history: [
      "drafts of datagram sockets used this number for VIRTIO_VSOCK_F_DGRAM",
      "VIRTIO 1.3 gave it to NO_IMPLIED_STREAM (virtio-spec 26ed30c)",
    ],
    source: "VIRTIO 1.3, Socket Device, Feature bits",
  },
  VSOCK_DGRAM: {
    bit: 3,
    symbol: "VIRTIO_VSOCK_F_DGRAM",
    toGuest: "in libkrun only: datagram sockets",
    toVhostKernel: "not offered",
    toVhostUser: "nothing: no back-end is known to offer it",
    history: ["proposed as bit 2, which VIRTIO 1.3 gave to NO_IMPLIED_STREAM; libkrun uses 3"],
    nonstandard: true,
    source: "libkrun src/devices/src/virtio/vsock/mod.rs",
  },
} as const satisfies FeatureTable;

/** Bit numbers of the vsock features: `VSOCK_F.VSOCK_SEQPACKET` is 1. */
export const VSOCK_F = bitNumbers(VSOCK_FEATURES);

/** Queue indices (VIRTIO, Socket Device, Virtqueues). */
export const VSOCK_QUEUE = { rx: 0, tx: 1, event: 2 } as const;

/** Number of queues that the device type has, the event queue included. */
export const VSOCK_QUEUE_COUNT = 3;

/**
 * The configuration space (VIRTIO, Socket Device, Device configuration layout), little-endian, read-only:
 *
 *     struct virtio_vsock_config { le64 guest_cid; };
 */
export const VSOCK_CONFIG = defineLayout("struct virtio_vsock_config", 8, [
  { name: "guestCid", offset: 0, width: 8 },
]);

/** The configuration space of a device whose guest has the context id `guestCid`. */
export function encodeVsockConfig(guestCid: bigint): Uint8Array {
  const bytes = new Uint8Array(VSOCK_CONFIG.byteLength);
  encodeStruct(VSOCK_CONFIG, { guestCid }, new DataView(bytes.buffer), 0, true);
  return bytes;
}

/** Context ids with a fixed meaning (VIRTIO, Socket Device; linux include/uapi/linux/vm_sockets.h). */
const RESERVED_CIDS: Readonly<Record<number, string>> = {
  0: "reserved for the hypervisor",
  1: "reserved for loopback",
  2: "the host's own",
  4294967295: "the wildcard VMADDR_CID_ANY",
};

/** The first and the last context id that a guest may have; none between them is reserved. */
export const GUEST_CIDS = { first: 3, last: 0xfffffffe } as const;

/** Why `cid` cannot be the context id of a guest, or undefined if it can. */
export function guestCidProblem(cid: number): string | undefined {
  if (cid >= 2 ** 32) {
    // VIRTIO, Socket Device: "The upper 32 bits of src_cid and dst_cid are reserved and zeroed."
    return `${cid} is not a CID: one has 32 bits`;
  }
  if (!Number.isInteger(cid) || cid < 0) return `${cid} is not a CID: one is a whole number`;
  const meaning = RESERVED_CIDS[cid];
  return meaning === undefined ? undefined : `CID ${cid} is ${meaning}`;
}
