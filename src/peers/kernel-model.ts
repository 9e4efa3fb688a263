/**
 * /dev/vhost-vsock as a device profile says: ioctls, and IOTLB messages by write and read, with the errnos of Linux
 * (drivers/vhost/vsock.c, vhost.c). Comments name the function that decides. What a worker thread does in the kernel
 * happens here after the events of the loop's next turn.
 * Must not know VMMs.
 */
import { closeSync } from "node:fs";
import { duplicate } from "../linux/duplicate.js";
import { EPOLLET, EPOLLIN } from "../linux/epoll.js";
import { SystemCallError } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import { signalEventfd } from "../linux/eventfd.js";
import { type Logger, silentLogger } from "../log/logger.js";
import { MemoryError } from "../memory/errors.js";
import type { AccessWatcher } from "../memory/watched-space.js";
import type { DeviceProfile, ModelledDevice } from "../profiles/device-profile.js";
import { type FdSlot, ReceivedFds } from "../vhost/descriptors.js";
import type {
  KernelErrno,
  KernelRegion,
  KernelRequest,
  KernelResult,
  KernelVhost,
} from "../vhost/kernel/requests.js";
import type { RingState } from "../vhost/ring-state.js";
import { IOTLB_TYPE, type IotlbMessage } from "../vhost/wire/index.js";
import { BACKEND_F, has, VSOCK_QUEUE } from "../virtio/index.js";
import { ALIGNMENT } from "../virtqueue/layout.js";
import type { Opener } from "../vsock/connection.js";
import type { HostEndpoints } from "../vsock/host-endpoints.js";
import { DataPlane } from "./data-plane.js";
import { modelOf } from "./modelled.js";
import { VhostModel } from "./vhost-model.js";

/** The event queue stays with the VMM (struct vhost_vsock, vqs). */
const QUEUES = 2;
/** vhost.c, max_mem_regions. */
const MOST_REGIONS = 64;
const LARGEST_INDEX = 0xffff;
const HOST_CID = 2n;
const ANY_CID = 0xffff_ffffn;

/** The context ids that are taken on one host, each by whoever holds it: one registry for all its models. */
export type CidRegistry = Map<bigint, unknown>;

export interface KernelModelParts {
  readonly loop: EventLoop;
  readonly profile: DeviceProfile;
  /** What is behind the host's ports. */
  readonly endpoints: HostEndpoints;
  readonly watcher?: AccessWatcher;
  readonly log?: Logger;
  /** Default: no other device on this host. */
  readonly cids?: CidRegistry;
}

type VringRequest = Extract<KernelRequest, { readonly index: number }>;

const succeeded = (value = 0n): KernelResult => ({ ok: true, value });
const failed = (errno: KernelErrno): KernelResult => ({ ok: false, errno });

export class KernelModel implements KernelVhost {
  readonly #parts: KernelModelParts;
  readonly #device: ModelledDevice;
  readonly #plane: DataPlane;
  readonly #model: VhostModel;
  readonly #cids: CidRegistry;
  readonly #afterEvents = (): void => this.#work();
  #hasOwner = false;
  #isRunning = false;
  #prefetchDue = false;
  #receiveKicks: { readonly fd: number; readonly token: number } | undefined;
  #isOpen = true;

  constructor(parts: KernelModelParts) {
    const { loop, profile, endpoints, watcher, log = silentLogger } = parts;
    this.#parts = parts;
    this.#device = modelOf(profile);
    this.#cids = parts.cids ?? new Map();
    // Before the data plane's own work, so that a ring is looked at in the order in which the kernel does.
    loop.afterEvents(this.#afterEvents);
    this.#plane = new DataPlane({ loop, log, endpoints, queueCount: QUEUES });
    this.#model = new VhostModel({
      device: this.#device,
      plane: this.#plane,
      log,
      watcher,
      checksUserAddresses: false,
      onMiss: () => {},
    });
    // vhost_vq_reset.
    for (const ring of this.#model.rings.all) ring.size = 1;
  }

  /** Addresses go through the IOTLB. */
  get translates(): boolean {
    return this.#model.translates;
  }

  /** Begins a connection from the host; see `VsockSwitch.connectGuest`. */
  connectGuest(guestPort: number, fd: number, opener: Opener): void {
    this.#plane.connectGuest(guestPort, fd, opener);
  }

  ioctl(request: KernelRequest): KernelResult {
    switch (request.name) {
      // vhost_vsock_dev_ioctl takes these itself, from whoever has the descriptor.
      case "VHOST_GET_FEATURES":
        return succeeded(this.#device.features);
      case "VHOST_SET_FEATURES":
        return this.#model.setFeatures(request.features) ? succeeded() : failed("EOPNOTSUPP");
      case "VHOST_VSOCK_SET_GUEST_CID":
        return this.#setCid(request.cid);
      case "VHOST_GET_BACKEND_FEATURES":
      case "VHOST_SET_BACKEND_FEATURES":
        if (this.#device.backendFeatures !== 0n) return this.#backendFeatures(request);
        return failed(this.#unknownRequest(request));
      case "VHOST_SET_OWNER":
        if (this.#hasOwner) return failed("EBUSY");
        this.#hasOwner = true;
        return succeeded();
      default:
        return this.#hasOwner ? this.#owned(request) : failed("EPERM");
    }
  }

  /** Unknown there, so vhost_dev_ioctl has a look at it, which asks for an owner, and then vhost_vring_ioctl. */
  #unknownRequest(request: KernelRequest): KernelErrno {
    if (!this.#hasOwner) return "EPERM";
    // It takes the first word of any argument for a ring's index.
    const index = "features" in request ? Number(BigInt.asUintN(32, request.features)) : 0;
    return index < QUEUES ? "ENOTTY" : "ENOBUFS";
  }

  #owned(request: Exclude<KernelRequest, { readonly name: "VHOST_SET_OWNER" }>): KernelResult {
    if (request.name === "VHOST_SET_MEM_TABLE") return this.#setMemory(request.regions);
    if (request.name === "VHOST_VSOCK_SET_RUNNING") return this.#setRunning(request.running);
    return "index" in request ? this.#vring(request) : failed("ENOTTY");
  }

  #backendFeatures(
    request: Extract<KernelRequest, { readonly name: `VHOST_${"GET" | "SET"}_BACKEND_FEATURES` }>,
  ): KernelResult {
    if (request.name === "VHOST_GET_BACKEND_FEATURES") return succeeded(this.#device.backendFeatures);
    if ((request.features & ~this.#device.backendFeatures) !== 0n) return failed("EOPNOTSUPP");
    this.#model.setMessagesNegotiated(has(request.features, BACKEND_F.IOTLB_MSG_V2));
    return succeeded();
  }

  /** vhost_vsock_set_cid. */
  #setCid(cid: bigint): KernelResult {
    if (cid <= HOST_CID || cid >= ANY_CID) return failed("EINVAL");
    const holder = this.#cids.get(cid);
    if (holder !== undefined && holder !== this) return failed("EADDRINUSE");
    this.#cids.delete(BigInt(this.#plane.guestCid));
    this.#cids.set(cid, this);
    this.#plane.guestCid = Number(cid);
    return succeeded();
  }

  /** vhost_set_memory. */
  #setMemory(regions: readonly KernelRegion[]): KernelResult {
    if (regions.length > MOST_REGIONS) return failed("E2BIG");
    const lent = duplicates(regions.map(({ fd }) => fd));
    if (lent === undefined) return failed("EFAULT");
    try {
      this.#model.setMemory(
        regions.map(({ guestAddress, userAddress, size, fileOffset }, index) => ({
          region: { gpa: guestAddress, uva: userAddress, size, mmapOffset: fileOffset },
          fd: lent[index],
        })),
      );
      return succeeded();
    } catch (error) {
      if (error instanceof MemoryError) return failed("EFAULT");
      throw error;
    }
  }

  // ---- rings: vhost_vring_ioctl ----

  #vring(request: VringRequest): KernelResult {
    const ring = this.#model.rings.all[request.index];
    if (ring === undefined) return failed("ENOBUFS");
    switch (request.name) {
      case "VHOST_SET_VRING_NUM":
        return this.#setNum(ring, request.num);
      case "VHOST_SET_VRING_BASE":
        if (this.#isRunning) return failed("EBUSY");
        if (request.num > LARGEST_INDEX) return failed("EINVAL");
        ring.base = request.num;
        return succeeded();
      case "VHOST_GET_VRING_BASE":
        return succeeded(BigInt(ring.running?.queue.nextAvail ?? ring.base));
      case "VHOST_SET_VRING_ADDR":
        return this.#setAddresses(ring, request);
      case "VHOST_SET_VRING_KICK":
        return this.#setKick(ring, request.fd);
      case "VHOST_SET_VRING_CALL":
        return setEventfd(ring.call, request.fd);
      case "VHOST_SET_VRING_ERR":
        return setEventfd(ring.error, request.fd);
    }
  }

  /** vhost_vring_set_num. */
  #setNum(ring: RingState, num: number): KernelResult {
    if (this.#isRunning) return failed("EBUSY");
    if (num <= 0 || num > LARGEST_INDEX || (num & (num - 1)) !== 0) return failed("EINVAL");
    ring.size = num;
    return succeeded();
  }

  /** vhost_vring_set_addr: looks at alignment, and at the rest only while the ring runs. */
  #setAddresses(
    ring: RingState,
    { addresses, log }: Extract<KernelRequest, { readonly name: "VHOST_SET_VRING_ADDR" }>,
  ): KernelResult {
    const isAligned = (address: bigint, alignment: number): boolean => address % BigInt(alignment) === 0n;
    if (!isAligned(addresses.avail, ALIGNMENT.avail) || !isAligned(addresses.used, ALIGNMENT.used))
      return failed("EINVAL");
    if (!isAligned(log, ALIGNMENT.used)) return failed("EINVAL");
    if (this.#isRunning && !this.#model.endsInUserSpace(addresses, ring.size)) return failed("EINVAL");
    ring.addresses = addresses;
    if (ring.running !== undefined) this.#model.restart(ring, "its addresses were set anew");
    return succeeded();
  }

  #setKick(ring: RingState, fd: number): KernelResult {
    const result = setEventfd(ring.kick, fd);
    if (!result.ok) return result;
    if (ring.running !== undefined) this.#model.restart(ring, "its kick eventfd was replaced");
    if (ring.index === VSOCK_QUEUE.rx) this.#watchReceiveKicks(ring.kick.fd);
    return result;
  }

  /** vhost_vsock_handle_rx_kick has a look at the ring even if there is nothing to send. */
  #watchReceiveKicks(fd: number): void {
    this.#unwatchReceiveKicks();
    if (fd < 0) return;
    const { loop } = this.#parts;
    // The data plane watches the other one.
    const own = duplicate(fd);
    const token = loop.watch(own, EPOLLIN | EPOLLET, {
      onEvents: () => {
        this.#prefetchDue = true;
      },
    });
    this.#receiveKicks = { fd: own, token };
  }

  #unwatchReceiveKicks(): void {
    if (this.#receiveKicks === undefined) return;
    const { fd, token } = this.#receiveKicks;
    this.#receiveKicks = undefined;
    this.#parts.loop.unwatch(fd, token);
    closeSync(fd);
  }

  #setRunning(running: boolean): KernelResult {
    const errno = running ? this.#start() : undefined;
    if (errno === undefined && running) {
      this.#isRunning = true;
    } else {
      this.#isRunning = false;
      this.#model.rings.stopAll(running ? "another ring did not start" : "the VMM stopped it");
    }
    return errno === undefined ? succeeded() : failed(errno);
  }

  /** vhost_vsock_start. The first ring that cannot start ends it, and those before it stop again. */
  #start(): KernelErrno | undefined {
    const { rings } = this.#model;
    for (const ring of rings.all) {
      if (!this.#model.mayStart(ring)) return "EFAULT";
      const looksFirst = this.#device.iotlb.ringsNeeded === "at-start";
      if (ring.running === undefined && looksFirst && !this.#model.hasUsedRing(ring)) return "EFAULT";
    }
    for (const ring of rings.all) if (ring.running === undefined) this.#model.start(ring);
    // It sends what waits for the guest, and to that end looks at the receive ring.
    this.#prefetchDue = true;
    this.#parts.loop.requestTurn();
    return undefined;
  }

  // ---- IOTLB messages ----

  /** vhost_chr_write_iter; there is no write before the IOTLB came. */
  write(message: IotlbMessage): KernelResult {
    if (this.#device.iotlb.enabledBy === "never") return failed("EINVAL");
    const result = this.#model.iotlbMessage(message);
    if (!result.ok) return failed(result.errno);
    for (const index of result.answered) this.#requeue(index);
    return succeeded();
  }

  /** vhost_iotlb_notify_vq: does what a kick does for a ring that had asked, and for no other. */
  #requeue(index: number): void {
    if (index === VSOCK_QUEUE.rx) this.#prefetchDue = true;
    const { kick } = this.#model.rings.all[index];
    if (kick.fd >= 0) signalEventfd(kick.fd);
    else this.#plane.memoryAvailable();
  }

  read(): IotlbMessage | undefined {
    const miss = this.#model.misses.read();
    if (miss === undefined) return undefined;
    const { iova, access } = miss;
    return { iova, size: 0n, userAddress: 0n, perm: access, type: IOTLB_TYPE.MISS };
  }

  #work(): void {
    if (!this.#prefetchDue) return;
    this.#prefetchDue = false;
    this.#model.prefetch(VSOCK_QUEUE.rx);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#parts.loop.removeAfterEvents(this.#afterEvents);
    this.#unwatchReceiveKicks();
    this.#model.close("the device was closed");
    if (this.#cids.get(BigInt(this.#plane.guestCid)) === this)
      this.#cids.delete(BigInt(this.#plane.guestCid));
  }
}

/** Keeps an eventfd that was lent; -1 takes the old one away. */
function setEventfd(slot: FdSlot, fd: number): KernelResult {
  if (fd === -1) {
    slot.close();
    return succeeded();
  }
  const copies = duplicates([fd]);
  if (copies === undefined) return failed("EBADF");
  const received = new ReceivedFds(copies);
  const taken = received.takeEventfd();
  received.closeRest();
  if (typeof taken === "string") return failed("EINVAL");
  slot.put(taken);
  return succeeded();
}

/** Descriptors of our own for each; undefined if one is not open. */
function duplicates(fds: readonly number[]): readonly number[] | undefined {
  const copies: number[] = [];
  try {
    for (const fd of fds) copies.push(duplicate(fd));
    return copies;
  } catch (error) {
    for (const copy of copies) closeSync(copy);
    if (error instanceof SystemCallError) return undefined;
    throw error;
  }
}
