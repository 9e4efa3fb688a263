/**
 * The typed configuration of one VM's device, its defaults and its limits.
 * Must not know where a value came from (settings.ts turns text into it) nor what the device does with it.
 * The rules that a configuration must keep are in check.ts.
 */

import { DEFAULT_EXPLICIT_IOTLB_BIT } from "../../virtio/index.js";
import type { Forward, Listen } from "./forwards.js";

/** How the translation mode of a session is found; see ARCHITECTURE.md for what each one promises. */
export const IOTLB_CHOICES = ["auto", "on", "off", "explicit"] as const;

export type IotlbChoice = (typeof IOTLB_CHOICES)[number];

export interface VmConfig {
  /** The guest's address. Unique on the host's VMs that share this program. */
  guestCid: number;
  /** Where the vhost-user socket is made; undefined when the socket is inherited (`--fd`). */
  socketPath: string | undefined;
  /** The host programs' socket; a guest's connection to port N goes to `<udsPath>_<N>`. */
  udsPath: string;
  /** What one connection may have in flight from the guest: the `buf_alloc` that is advertised to it. */
  txBufferBytes: number;
  /** The largest ring that is accepted from the front-end, in descriptors. */
  queueSize: number;
  /** Names of the groups whose members may talk to each other. */
  groups: string[];
  iotlb: IotlbChoice;
  /** The vhost-user protocol feature bit that `explicit` uses. Experimental: no bit is assigned yet. */
  explicitBit: number;
  /** Whether VIRTIO_F_ACCESS_PLATFORM (bit 33) is offered to the guest. */
  accessPlatform: boolean;
  /** Whether seqpacket sockets are offered to the guest, and `<udsPath>_seqpacket` made for host programs. */
  seqpacket: boolean;
  /** Permission bits of the host programs' sockets; undefined leaves it to the umask. */
  udsMode: number | undefined;
  /** Group that shall own the host programs' sockets, as a number. */
  udsGroup: number | undefined;
  /** Where the guest's connections to some ports go, instead of to `<udsPath>_<port>`. */
  forwards: readonly Forward[];
  /** Sockets of the host that stand for ports of the guest. */
  listens: readonly Listen[];
  maxConnections: number;
  /** Sum of `txBufferBytes` over all connections; undefined follows from `txBufferBytes`. */
  totalBufferBytes: number | undefined;
  /** How long `auto` waits for a first IOTLB message when addresses alone do not decide. */
  probationMs: number;
  /** How long a connection may take to be established, in either direction. */
  connectTimeoutMs: number;
  /** How long a host program may take to send its CONNECT line. */
  handshakeTimeoutMs: number;
  /** How long a peer may take to answer an orderly shutdown before it is reset. */
  shutdownTimeoutMs: number;
}

/**
 * What holds where nothing is said. CID, queue size and group are vhost-device-vsock's defaults, so that a
 * command line written for it means the same here; its 64 KiB buffer is only what a connection begins with
 * (`firstBufferBytes` in vsock/limits.ts). A guest that has used up its credit waits until two threads have been woken one
 * after the other, 50 µs and more in a VM, in which a Unix socket takes 200 KiB. With 1 MiB it is still sending when new
 * credit comes (docs/performance.md). Linux guests that send no more ahead than their own buffer, as from 7.2 on, use as much
 * of it as that allows.
 */
export const VM_DEFAULTS = {
  guestCid: 3,
  socketPath: undefined,
  txBufferBytes: 1024 * 1024,
  queueSize: 1024,
  groups: ["default"],
  iotlb: "auto",
  explicitBit: DEFAULT_EXPLICIT_IOTLB_BIT,
  accessPlatform: true,
  seqpacket: true,
  udsMode: undefined,
  udsGroup: undefined,
  forwards: [],
  listens: [],
  maxConnections: 4096,
  totalBufferBytes: undefined,
  probationMs: 50,
  connectTimeoutMs: 2000,
  handshakeTimeoutMs: 10_000,
  shutdownTimeoutMs: 8000,
} as const satisfies Omit<{ readonly [Key in keyof VmConfig]: VmConfig[Key] | readonly string[] }, "udsPath">;

/** A complete configuration from the two things that have no default and whatever differs. */
export function vmConfig(given: Pick<VmConfig, "socketPath" | "udsPath"> & Partial<VmConfig>): VmConfig {
  return { ...VM_DEFAULTS, groups: [...VM_DEFAULTS.groups], ...given };
}

/** Numbers that have bounds: the smallest and the largest value allowed, both included. (A CID has rules of its own.) */
export const VM_LIMITS = {
  /**
   * From the least that Linux allows for a vsock socket's own buffer (net/vmw_vsock/af_vsock.c,
   * VSOCK_DEFAULT_BUFFER_MIN_SIZE), so that what a peer may be given may be given here. The most is our choice: above
   * 1 GiB a few connections are a host.
   */
  txBufferBytes: [128, 1024 * 1024 * 1024],
  /** virtio 1.2, 2.7: a split queue has at most 32768 descriptors, and a power of two of them. */
  queueSize: [1, 32768],
  /** Our choice: each connection is an open descriptor of this process. */
  maxConnections: [1, 65536],
  /** From one page a connection on; the most is our choice. Nothing is set aside for it. */
  totalBufferBytes: [4096, 64 * 1024 * 1024 * 1024],
  probationMs: [0, 60_000],
  connectTimeoutMs: [1, 600_000],
  handshakeTimeoutMs: [1, 600_000],
  shutdownTimeoutMs: [1, 600_000],
} as const satisfies Partial<Record<keyof VmConfig, readonly [smallest: number, largest: number]>>;

/** What the seqpacket socket for host programs adds to `udsPath`; no longer than the longest port. */
export const SEQPACKET_SUFFIX = "_seqpacket";

/** What a guest's connection adds to `udsPath` at most: an underscore and the largest port. */
export const LONGEST_PORT_SUFFIX = "_4294967295";
