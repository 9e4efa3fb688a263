/**
 * Plays a VMM that drives the kernel's vhost-vsock, for the built-in guest, as a profile says: its ioctls, in its
 * order. The device's configuration space is the VMM's own here. What it shares with the vhost-user player is in
 * base-player.ts. Must not know who plays the kernel.
 */
import type { RingStep, SetupStep } from "../profiles/vmm-profile.js";
import { describeKernelRequest, describeKernelResult } from "../vhost/kernel/describe.js";
import type { KernelErrno, KernelRequest, KernelResult, KernelVhost } from "../vhost/kernel/requests.js";
import { describeIotlb, IOTLB_TYPE, type IotlbMessage } from "../vhost/wire/index.js";
import { BasePlayer } from "./base-player.js";
import type { RemoteIotlb } from "./iotlb-server.js";
import type { DeviceOffer } from "./negotiation.js";
import type { GuestQueue, PlayerParts } from "./player.js";

export interface KernelFrontEndOptions extends PlayerParts {
  /** An open device; it is closed with this. */
  readonly vhost: KernelVhost;
  /** The guest's context id, which the VMM gives to guest and kernel. */
  readonly cid: number;
}

/** A request that failed. */
class KernelError extends Error {
  override readonly name = "KernelError";

  constructor(
    readonly request: string,
    readonly errno: KernelErrno,
  ) {
    super(`${request}: ${errno}`);
  }
}

export class KernelFrontEnd extends BasePlayer {
  protected readonly remoteIotlb: RemoteIotlb;
  readonly #vhost: KernelVhost;
  readonly #cid: number;
  #features: bigint | undefined;
  #isClosed = false;

  readonly #setUps: Readonly<Record<SetupStep, (queues: readonly GuestQueue[]) => void>> = {
    features: () => this.#call({ name: "VHOST_SET_FEATURES", features: this.negotiation.sentToBackend }),
    "backend-features": () => this.#setBackendFeatures(),
    memory: () => this.#shareMemory(),
    cid: () => this.#call({ name: "VHOST_VSOCK_SET_GUEST_CID", cid: BigInt(this.#cid) }),
    "used-rings": (queues) => this.pushUsedRings(queues),
    running: () => this.#call({ name: "VHOST_VSOCK_SET_RUNNING", running: true }),
    // vhost-user's: the kernel has no request for them.
    status: () => {},
    channel: () => {},
  };

  constructor(options: KernelFrontEndOptions) {
    super(options);
    this.#vhost = options.vhost;
    this.#cid = options.cid;
    this.remoteIotlb = {
      update: (iova, size, userAddress, perm) =>
        this.#write({ type: IOTLB_TYPE.UPDATE, iova, size, userAddress, perm }),
      invalidate: (iova, size) =>
        void this.#write({ type: IOTLB_TYPE.INVALIDATE, iova, size, userAddress: 0n, perm: 0 }),
    };
  }

  protected meetDevice(): DeviceOffer {
    this.#call({ name: "VHOST_SET_OWNER" });
    if (this.parts.profile.asksDevice === "before-guest") this.#askFeatures();
    const offer = { features: this.#features, protocolFeatures: 0n };
    this.refuseIfDue(offer);
    this.setUpEarly();
    return offer;
  }

  protected offerOfDevice(): DeviceOffer {
    return { features: this.#features ?? this.#askFeatures(), protocolFeatures: 0n };
  }

  #askFeatures(): bigint {
    const features = this.#call({ name: "VHOST_GET_FEATURES" });
    this.#features = features;
    this.negotiation.offeredByBackend = features;
    this.tell({ kind: "device-offer", features });
    return features;
  }

  readCid(): number {
    return this.#cid;
  }

  protected setUp(step: SetupStep, queues: readonly GuestQueue[]): void {
    this.#setUps[step](queues);
  }

  /** A kernel that does not know the question has none (QEMU, `vhost_kernel_set_backend_cap`). */
  #setBackendFeatures(): void {
    const offered = this.#ask({ name: "VHOST_GET_BACKEND_FEATURES" });
    if (!offered.ok) return;
    const features = offered.value & this.parts.profile.backendFeatures;
    this.#call({ name: "VHOST_SET_BACKEND_FEATURES", features });
  }

  #shareMemory(): void {
    const regions = this.users.regions(this.parts.ram.fd);
    this.#call({
      name: "VHOST_SET_MEM_TABLE",
      regions: regions.map(({ mmapOffset, ...region }) => ({ ...region, fileOffset: mmapOffset })),
    });
  }

  protected setUpRing(step: RingStep, index: number, queue: GuestQueue): void {
    const request = this.#ringRequest(step, index, queue);
    if (request !== undefined) this.#call(request);
  }

  #ringRequest(step: RingStep, index: number, queue: GuestQueue): KernelRequest | undefined {
    switch (step) {
      case "num":
        return { name: "VHOST_SET_VRING_NUM", index, num: queue.size };
      case "base":
        return { name: "VHOST_SET_VRING_BASE", index, num: 0 };
      case "addr":
        return { name: "VHOST_SET_VRING_ADDR", index, addresses: this.ringAddresses(index, queue), log: 0n };
      case "kick":
        return { name: "VHOST_SET_VRING_KICK", index, fd: queue.kickFd };
      case "call":
        return { name: "VHOST_SET_VRING_CALL", index, fd: queue.callFd };
      case "err":
        return { name: "VHOST_SET_VRING_ERR", index, fd: this.errorFd(index) };
      case "enable":
        // VHOST_VSOCK_SET_RUNNING starts all rings at once.
        return undefined;
    }
  }

  /** It was not told to run. */
  protected disableRings(): void {}

  /** Reads the kernel's questions; a VMM that knows no IOTLB never reads. */
  serve(): number {
    if (this.iotlb === undefined || this.failure !== undefined) return 0;
    let served = 0;
    for (let miss = this.#vhost.read(); miss !== undefined; miss = this.#vhost.read()) {
      const question = miss;
      this.guarded(() => void this.miss(question));
      served++;
    }
    return served;
  }

  /** As QEMU: the device first, then the position of each ring. */
  stop(): number[] {
    if (this.died) return [];
    this.isRunning = false;
    this.#call({ name: "VHOST_VSOCK_SET_RUNNING", running: false });
    return Array.from({ length: this.queueCount }, (_, index) =>
      Number(this.#call({ name: "VHOST_GET_VRING_BASE", index })),
    );
  }

  override close(): void {
    super.close();
    this.abandon();
  }

  protected abandon(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#vhost.close();
  }

  protected refusalByDevice(error: unknown): string | undefined {
    return error instanceof KernelError ? error.message : undefined;
  }

  #ask(request: KernelRequest): KernelResult {
    this.tell({ kind: "begins" });
    const result = this.#vhost.ioctl(request);
    this.tell({
      kind: "message",
      text: describeKernelRequest(request),
      result: describeKernelResult(request, result),
    });
    return result;
  }

  #call(request: KernelRequest): bigint {
    const result = this.#ask(request);
    if (!result.ok) throw new KernelError(request.name, result.errno);
    return result.value;
  }

  /** QEMU reports a message that the kernel does not take and goes on. */
  #write(message: IotlbMessage): boolean {
    this.tell({ kind: "begins" });
    const result = this.#vhost.write(message);
    this.tell({
      kind: "message",
      text: `write ${describeIotlb(message)}`,
      result: result.ok ? "ok" : result.errno,
    });
    return result.ok;
  }
}
