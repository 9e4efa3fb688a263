/**
 * The payload structures of vhost-user as tables, each with its C declaration.
 *
 * Addresses are plain 64-bit numbers here. Which address space one belongs to depends on what was negotiated
 * (src/memory). Source of every table: vhost-user, Message Specification, Payload; sizes as QEMU compiles them.
 */
import { defineLayout } from "../../virtio/index.js";

/** A single 64-bit integer: `uint64_t u64;` */
export const U64 = defineLayout("u64", 8, [{ name: "value", offset: 0, width: 8 }]);

/**
 *     struct vhost_vring_state { unsigned int index; unsigned int num; };
 */
export const VRING_STATE = defineLayout("struct vhost_vring_state", 8, [
  { name: "index", offset: 0, width: 4 },
  { name: "num", offset: 4, width: 4 },
]);

/**
 *     struct vhost_vring_addr {
 *         unsigned int index; unsigned int flags;
 *         __u64 desc_user_addr; __u64 used_user_addr; __u64 avail_user_addr; __u64 log_guest_addr;
 *     };
 *
 * "A ring address is an IOVA if VIRTIO_F_IOMMU_PLATFORM has been negotiated. Otherwise it is a user address",
 * or a guest address under GPA_ADDRESSES.
 */
export const VRING_ADDR = defineLayout("struct vhost_vring_addr", 40, [
  { name: "index", offset: 0, width: 4 },
  { name: "flags", offset: 4, width: 4 },
  { name: "desc", offset: 8, width: 8 },
  { name: "used", offset: 16, width: 8 },
  { name: "avail", offset: 24, width: 8 },
  { name: "log", offset: 32, width: 8 },
]);

/**
 *     typedef struct VhostUserMemory { uint32_t nregions; uint32_t padding; VhostUserMemoryRegion regions[]; }
 */
export const MEM_TABLE_HEAD = defineLayout("VhostUserMemory", 8, [
  { name: "regionCount", offset: 0, width: 4 },
  { name: "_padding", offset: 4, width: 4 },
]);

/**
 *     typedef struct VhostUserMemoryRegion {
 *         uint64_t guest_phys_addr; uint64_t memory_size; uint64_t userspace_addr; uint64_t mmap_offset;
 *     }
 */
export const MEM_REGION = defineLayout("VhostUserMemoryRegion", 32, [
  { name: "guestAddress", offset: 0, width: 8 },
  { name: "size", offset: 8, width: 8 },
  { name: "userAddress", offset: 16, width: 8 },
  { name: "mmapOffset", offset: 24, width: 8 },
]);

/**
 * The two fields that follow a region under XEN_MMAP:
 *
 *     uint32_t xen_mmap_flags; uint32_t domid;
 */
export const XEN_REGION_TAIL = defineLayout("Xen region tail", 8, [
  { name: "flags", offset: 0, width: 4 },
  { name: "domid", offset: 4, width: 4 },
]);

/** The padding before a single region: `uint64_t padding;` in VhostUserMemRegMsg. */
export const SINGLE_REGION_HEAD = defineLayout("VhostUserMemRegMsg", 8, [
  { name: "_padding", offset: 0, width: 8 },
]);

/**
 *     typedef struct VhostUserLog { uint64_t mmap_size; uint64_t mmap_offset; } VhostUserLog;
 */
export const LOG = defineLayout("VhostUserLog", 16, [
  { name: "size", offset: 0, width: 8 },
  { name: "offset", offset: 8, width: 8 },
]);

/**
 *     struct vhost_iotlb_msg { __u64 iova; __u64 size; __u64 uaddr; __u8 perm; __u8 type; };
 *
 * 32 bytes with the tail padding that its 64-bit members force. QEMU leaves the padding, and in INVALIDATE
 * the user address and permission, uninitialised: never compare whole messages.
 */
export const IOTLB = defineLayout("struct vhost_iotlb_msg", 32, [
  { name: "iova", offset: 0, width: 8 },
  { name: "size", offset: 8, width: 8 },
  { name: "userAddress", offset: 16, width: 8 },
  { name: "perm", offset: 24, width: 1 },
  { name: "type", offset: 25, width: 1 },
  { name: "_tail", offset: 26, width: 6 },
]);

/**
 *     typedef struct VhostUserConfig { uint32_t offset; uint32_t size; uint32_t flags; uint8_t region[]; }
 */
export const CONFIG_HEAD = defineLayout("VhostUserConfig", 12, [
  { name: "offset", offset: 0, width: 4 },
  { name: "size", offset: 4, width: 4 },
  { name: "flags", offset: 8, width: 4 },
]);

/**
 *     typedef struct VhostUserVringArea { uint64_t u64; uint64_t size; uint64_t offset; } VhostUserVringArea;
 */
export const VRING_AREA = defineLayout("VhostUserVringArea", 24, [
  { name: "vring", offset: 0, width: 8 },
  { name: "size", offset: 8, width: 8 },
  { name: "offset", offset: 16, width: 8 },
]);

/**
 *     typedef struct VhostUserInflight {
 *         uint64_t mmap_size; uint64_t mmap_offset; uint16_t num_queues; uint16_t queue_size;
 *     } VhostUserInflight;
 *
 * The document's fields end at 20; a compiler pads the structure to 24, which is what QEMU sends.
 */
export const INFLIGHT = defineLayout("VhostUserInflight", 20, [
  { name: "mmapSize", offset: 0, width: 8 },
  { name: "mmapOffset", offset: 8, width: 8 },
  { name: "queueCount", offset: 16, width: 2 },
  { name: "queueSize", offset: 18, width: 2 },
]);

/** Bytes of VhostUserInflight with its tail padding. */
export const INFLIGHT_PADDED_BYTES = 24;

/** `typedef struct VhostUserShared { unsigned char uuid[16]; } VhostUserShared;` */
export const SHARED_OBJECT = defineLayout("VhostUserShared", 16, [{ name: "uuid", offset: 0, width: 16 }]);

/**
 *     typedef struct VhostUserTransferDeviceState { uint32_t direction; uint32_t phase; }
 */
export const DEVICE_STATE = defineLayout("VhostUserTransferDeviceState", 8, [
  { name: "direction", offset: 0, width: 4 },
  { name: "phase", offset: 4, width: 4 },
]);

/**
 *     typedef struct VhostUserShMemConfig { uint32_t nregions; uint32_t padding; uint64_t memory_sizes[]; }
 */
export const SHMEM_CONFIG_HEAD = defineLayout("VhostUserShMemConfig", 8, [
  { name: "regionCount", offset: 0, width: 4 },
  { name: "_padding", offset: 4, width: 4 },
]);

/**
 *     typedef struct VhostUserMMap {
 *         uint8_t shmid; uint8_t padding[7];
 *         uint64_t fd_offset; uint64_t shm_offset; uint64_t len; uint64_t flags;
 *     } VhostUserMMap;
 */
export const SHMEM_MAP = defineLayout("VhostUserMMap", 40, [
  { name: "shmid", offset: 0, width: 1 },
  { name: "_padding", offset: 1, width: 7 },
  { name: "fdOffset", offset: 8, width: 8 },
  { name: "shmOffset", offset: 16, width: 8 },
  { name: "size", offset: 24, width: 8 },
  { name: "flags", offset: 32, width: 8 },
]);

/** Every table, for the test that walks them. */
export const PAYLOAD_LAYOUTS = [
  U64,
  VRING_STATE,
  VRING_ADDR,
  MEM_TABLE_HEAD,
  MEM_REGION,
  XEN_REGION_TAIL,
  SINGLE_REGION_HEAD,
  LOG,
  IOTLB,
  CONFIG_HEAD,
  VRING_AREA,
  INFLIGHT,
  SHARED_OBJECT,
  DEVICE_STATE,
  SHMEM_CONFIG_HEAD,
  SHMEM_MAP,
] as const;
