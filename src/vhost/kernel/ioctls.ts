/**
 * The kernel's vhost requests by number: what a trace of system calls names or counts them by, and what their argument
 * points to. Linux include/uapi/linux/vhost.h, vhost_types.h; the numbers are those of strace 6.1 and later as well.
 * Must not know how an argument was seen.
 */
import { defineLayout } from "../../virtio/index.js";

/** `_IOC_TYPE` of every vhost request: VHOST_VIRTIO. */
export const VHOST_IOC_TYPE = 0xaf;

/** The direction bits of a request number, on x86 and arm64 (asm-generic/ioctl.h). */
export const IOC_DIRECTION = { none: 0, write: 1, read: 2, both: 3 } as const;
export type IocDirection = keyof typeof IOC_DIRECTION;

/** What the third argument of ioctl() points to; `number` is no pointer. */
export type KernelArgument =
  | "none"
  /** __u64: feature words, context ids. */
  | "word"
  /** int. */
  | "int"
  /** struct vhost_vring_state. */
  | "vringState"
  /** struct vhost_vring_addr. */
  | "vringAddr"
  /** struct vhost_vring_file. */
  | "vringFile"
  /** struct vhost_memory. */
  | "memory"
  /** Something that nobody here looks into. */
  | "other";

export interface KernelIoctl {
  readonly direction: IocDirection;
  readonly number: number;
  readonly argument: KernelArgument;
}

/** struct vhost_memory_region: as in vhost-user, with padding where that has the offset in a file. */
export const KERNEL_REGION = defineLayout("struct vhost_memory_region", 32, [
  { name: "guestAddress", offset: 0, width: 8 },
  { name: "size", offset: 8, width: 8 },
  { name: "userAddress", offset: 16, width: 8 },
  { name: "_flagsPadding", offset: 24, width: 8 },
]);

/** struct vhost_msg and vhost_msg_v2: the IOTLB's message begins at byte 8 of both, which are 72 long. */
export const IOTLB_MSG = {
  bytes: 72,
  messageOffset: 8,
  /** VHOST_IOTLB_MSG and VHOST_IOTLB_MSG_V2, the first 32 bits. */
  types: [1, 2] as readonly number[],
} as const;

function ioctl(direction: IocDirection, number: number, argument: KernelArgument): KernelIoctl {
  return { direction, number, argument };
}

/** By name, as the headers and strace have it. */
export const KERNEL_IOCTLS = {
  VHOST_GET_FEATURES: ioctl("read", 0x00, "word"),
  VHOST_SET_FEATURES: ioctl("write", 0x00, "word"),
  VHOST_SET_OWNER: ioctl("none", 0x01, "none"),
  VHOST_RESET_OWNER: ioctl("none", 0x02, "none"),
  VHOST_SET_MEM_TABLE: ioctl("write", 0x03, "memory"),
  VHOST_SET_LOG_BASE: ioctl("write", 0x04, "word"),
  VHOST_SET_LOG_FD: ioctl("write", 0x07, "int"),
  VHOST_NEW_WORKER: ioctl("read", 0x08, "other"),
  VHOST_FREE_WORKER: ioctl("write", 0x09, "other"),
  VHOST_SET_VRING_NUM: ioctl("write", 0x10, "vringState"),
  VHOST_SET_VRING_ADDR: ioctl("write", 0x11, "vringAddr"),
  VHOST_SET_VRING_BASE: ioctl("write", 0x12, "vringState"),
  VHOST_GET_VRING_BASE: ioctl("both", 0x12, "vringState"),
  VHOST_SET_VRING_ENDIAN: ioctl("write", 0x13, "vringState"),
  VHOST_GET_VRING_ENDIAN: ioctl("write", 0x14, "vringState"),
  VHOST_ATTACH_VRING_WORKER: ioctl("write", 0x15, "other"),
  VHOST_GET_VRING_WORKER: ioctl("both", 0x16, "other"),
  VHOST_SET_VRING_KICK: ioctl("write", 0x20, "vringFile"),
  VHOST_SET_VRING_CALL: ioctl("write", 0x21, "vringFile"),
  VHOST_SET_VRING_ERR: ioctl("write", 0x22, "vringFile"),
  VHOST_SET_VRING_BUSYLOOP_TIMEOUT: ioctl("write", 0x23, "vringState"),
  VHOST_GET_VRING_BUSYLOOP_TIMEOUT: ioctl("write", 0x24, "vringState"),
  VHOST_SET_BACKEND_FEATURES: ioctl("write", 0x25, "word"),
  VHOST_GET_BACKEND_FEATURES: ioctl("read", 0x26, "word"),
  VHOST_NET_SET_BACKEND: ioctl("write", 0x30, "vringFile"),
  VHOST_SCSI_SET_ENDPOINT: ioctl("write", 0x40, "other"),
  VHOST_SCSI_CLEAR_ENDPOINT: ioctl("write", 0x41, "other"),
  VHOST_SCSI_GET_ABI_VERSION: ioctl("write", 0x42, "other"),
  VHOST_SCSI_SET_EVENTS_MISSED: ioctl("write", 0x43, "other"),
  VHOST_SCSI_GET_EVENTS_MISSED: ioctl("write", 0x44, "other"),
  VHOST_VSOCK_SET_GUEST_CID: ioctl("write", 0x60, "word"),
  VHOST_VSOCK_SET_RUNNING: ioctl("write", 0x61, "int"),
  VHOST_VDPA_GET_DEVICE_ID: ioctl("read", 0x70, "other"),
  VHOST_VDPA_GET_STATUS: ioctl("read", 0x71, "other"),
  VHOST_VDPA_SET_STATUS: ioctl("write", 0x72, "other"),
  VHOST_VDPA_GET_CONFIG: ioctl("read", 0x73, "other"),
  VHOST_VDPA_SET_CONFIG: ioctl("write", 0x74, "other"),
  VHOST_VDPA_SET_VRING_ENABLE: ioctl("write", 0x75, "vringState"),
  VHOST_VDPA_GET_VRING_NUM: ioctl("read", 0x76, "other"),
  VHOST_VDPA_SET_CONFIG_CALL: ioctl("write", 0x77, "other"),
  VHOST_VDPA_GET_IOVA_RANGE: ioctl("read", 0x78, "other"),
  VHOST_VDPA_GET_CONFIG_SIZE: ioctl("read", 0x79, "other"),
  VHOST_VDPA_GET_AS_NUM: ioctl("read", 0x7a, "other"),
  VHOST_VDPA_GET_VRING_GROUP: ioctl("both", 0x7b, "other"),
  VHOST_VDPA_SET_GROUP_ASID: ioctl("write", 0x7c, "other"),
  VHOST_VDPA_SUSPEND: ioctl("none", 0x7d, "none"),
  VHOST_VDPA_RESUME: ioctl("none", 0x7e, "none"),
  VHOST_VDPA_GET_VRING_DESC_GROUP: ioctl("both", 0x7f, "other"),
  VHOST_VDPA_GET_VQS_COUNT: ioctl("read", 0x80, "other"),
  VHOST_VDPA_GET_GROUP_NUM: ioctl("read", 0x81, "other"),
  VHOST_VDPA_GET_VRING_SIZE: ioctl("both", 0x82, "other"),
  VHOST_GET_FEATURES_ARRAY: ioctl("read", 0x83, "other"),
  VHOST_SET_FEATURES_ARRAY: ioctl("write", 0x83, "other"),
  VHOST_SET_FORK_FROM_OWNER: ioctl("write", 0x84, "other"),
  VHOST_GET_FORK_FROM_OWNER: ioctl("read", 0x85, "other"),
} as const satisfies Readonly<Record<string, KernelIoctl>>;

export type KernelIoctlName = keyof typeof KERNEL_IOCTLS;

const BY_NUMBER: ReadonlyMap<string, KernelIoctlName> = new Map(
  (Object.entries(KERNEL_IOCTLS) as [KernelIoctlName, KernelIoctl][]).map(([name, { direction, number }]) => [
    `${direction} ${number}`,
    name,
  ]),
);

export function isKernelIoctl(name: string): name is KernelIoctlName {
  return Object.hasOwn(KERNEL_IOCTLS, name);
}

/** The name of a request of type VHOST_VIRTIO, or undefined for a number that nobody assigned. */
export function kernelIoctlByNumber(direction: IocDirection, number: number): KernelIoctlName | undefined {
  return BY_NUMBER.get(`${direction} ${number}`);
}
