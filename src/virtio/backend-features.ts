/**
 * The kernel's vhost backend features: what VHOST_GET_ and VHOST_SET_BACKEND_FEATURES carry.
 *
 * They are a third word, apart from virtio's and from vhost-user's protocol features.
 */
import { bitNumbers, type FeatureTable } from "./record.js";

const HEADER = "linux include/uapi/linux/vhost_types.h";

/** Records of the backend features, by name without `VHOST_BACKEND_F_`. */
export const BACKEND_FEATURES = {
  IOTLB_MSG_V2: {
    bit: 1,
    toVhostKernel: "IOTLB messages are struct vhost_msg_v2; the only one that vhost-vsock offers",
    history: [
      "2022: proposed as the condition for bit 33 to mean an IOTLB; not done, since older VMMs that translate do " +
        "not acknowledge it",
    ],
    source: `${HEADER}; drivers/vhost/vsock.c VHOST_VSOCK_BACKEND_FEATURES`,
  },
  IOTLB_BATCH: { bit: 2, toVhostKernel: "IOTLB messages in batches (vhost-vdpa)", source: HEADER },
  IOTLB_ASID: { bit: 3, toVhostKernel: "IOTLB messages name an address space (vhost-vdpa)", source: HEADER },
  SUSPEND: { bit: 4, toVhostKernel: "the device can be suspended (vhost-vdpa)", source: HEADER },
  RESUME: { bit: 5, toVhostKernel: "the device can be resumed (vhost-vdpa)", source: HEADER },
  ENABLE_AFTER_DRIVER_OK: {
    bit: 6,
    toVhostKernel: "rings may be enabled after DRIVER_OK (vhost-vdpa)",
    source: HEADER,
  },
  DESC_ASID: {
    bit: 7,
    toVhostKernel: "descriptor areas have an address space of their own (vhost-vdpa)",
    source: HEADER,
  },
  IOTLB_PERSIST: { bit: 8, toVhostKernel: "mappings survive a device reset (vhost-vdpa)", source: HEADER },
} as const satisfies FeatureTable;

/** Bit numbers of the kernel's backend features: `BACKEND_F.IOTLB_MSG_V2` is 1. */
export const BACKEND_F = bitNumbers(BACKEND_FEATURES);
