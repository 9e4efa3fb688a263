/**
 * Kernel vhost as data: the requests that a VMM makes on /dev/vhost-vsock, and their results. Whoever implements
 * `KernelVhost` plays the kernel. Requests and structures: Linux include/uapi/linux/vhost.h, vhost_types.h.
 * Must not know descriptors of the real device: no request here reaches a kernel.
 */
import type { RingAddresses } from "../ring-state.js";
import type { IotlbMessage } from "../wire/index.js";

/** A region of VHOST_SET_MEM_TABLE. In the kernel a user address is enough; here the memory comes as a file, too. */
export interface KernelRegion {
  readonly guestAddress: bigint;
  readonly size: bigint;
  readonly userAddress: bigint;
  /** Where `userAddress` leads: a file, and the offset in it. Borrowed for the call; map it within. */
  readonly fd: number;
  readonly fileOffset: bigint;
}

export type KernelRequest =
  | { readonly name: "VHOST_SET_OWNER" }
  | { readonly name: "VHOST_GET_FEATURES" }
  | { readonly name: "VHOST_SET_FEATURES"; readonly features: bigint }
  | { readonly name: "VHOST_GET_BACKEND_FEATURES" }
  | { readonly name: "VHOST_SET_BACKEND_FEATURES"; readonly features: bigint }
  | { readonly name: "VHOST_SET_MEM_TABLE"; readonly regions: readonly KernelRegion[] }
  | { readonly name: "VHOST_SET_VRING_NUM"; readonly index: number; readonly num: number }
  | { readonly name: "VHOST_SET_VRING_BASE"; readonly index: number; readonly num: number }
  | { readonly name: "VHOST_GET_VRING_BASE"; readonly index: number }
  | {
      readonly name: "VHOST_SET_VRING_ADDR";
      readonly index: number;
      readonly addresses: RingAddresses;
      readonly log: bigint;
    }
  /** Descriptors are borrowed: whoever keeps one duplicates it. -1 takes the old one away. */
  | {
      readonly name: "VHOST_SET_VRING_KICK" | "VHOST_SET_VRING_CALL" | "VHOST_SET_VRING_ERR";
      readonly index: number;
      readonly fd: number;
    }
  | { readonly name: "VHOST_VSOCK_SET_GUEST_CID"; readonly cid: bigint }
  | { readonly name: "VHOST_VSOCK_SET_RUNNING"; readonly running: boolean };

export type KernelErrno =
  | "EFAULT"
  | "EINVAL"
  | "EOPNOTSUPP"
  | "EBUSY"
  | "EADDRINUSE"
  | "EPERM"
  | "EAGAIN"
  | "ENODEV"
  | "EBADF"
  | "E2BIG"
  | "ENOBUFS"
  | "ENOTTY";

export type KernelResult =
  /** `value` is what GET_FEATURES, GET_BACKEND_FEATURES and GET_VRING_BASE give; 0n otherwise. */
  { readonly ok: true; readonly value: bigint } | { readonly ok: false; readonly errno: KernelErrno };

/** An open /dev/vhost-vsock. */
export interface KernelVhost {
  ioctl(request: KernelRequest): KernelResult;
  /** write(): an UPDATE or INVALIDATE. */
  write(message: IotlbMessage): KernelResult;
  /** read(): the next MISS, or undefined where the kernel answers EAGAIN. */
  read(): IotlbMessage | undefined;
  /** The last descriptor is closed. */
  close(): void;
}
