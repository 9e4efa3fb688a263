/**
 * Plays a VMM's vhost-user front-end for the built-in guest, in QEMU's order of calls, as a profile says. Owns the
 * vhost-user session and the fake user addresses; the guest's memory, rings and eventfds are the guest's.
 * Must not know the device at the other end of the socket.
 */
import { closeSync } from "node:fs";
import type { GuestRam } from "../guest/guest-ram.js";
import type { Viommu } from "../guest/platform.js";
import { EPOLLIN } from "../linux/epoll.js";
import { SystemCallError } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import { createEventfd, drainEventfd } from "../linux/eventfd.js";
import { connectUnix, createSocket } from "../linux/unix-socket.js";
import { FrontEndError } from "../vhost/front-end-error.js";
import { FrontEndSession } from "../vhost/front-end-session.js";
import type { RingAddresses } from "../vhost/ring-state.js";
import { F, has, mask, PROTOCOL_F, STATUS, without } from "../virtio/index.js";
import { IotlbServer } from "./iotlb-server.js";
import type { FrontEndProfile, MachineOptions } from "./profile.js";
import { UserAddresses } from "./user-addresses.js";

/** One queue of the guest's driver, as a VMM gets to know it. */
export interface GuestQueue {
  readonly size: number;
  /** What the driver wrote into the queue's address registers. */
  readonly addresses: RingAddresses;
  readonly kickFd: number;
  readonly callFd: number;
}

export interface FrontEndOptions {
  readonly socketPath: string;
  readonly profile: FrontEndProfile;
  readonly machine: MachineOptions;
  readonly ram: GuestRam;
  /** The guest's vIOMMU; it serves the device only if `machine.viommu`. */
  readonly viommu: Viommu | undefined;
  readonly loop: EventLoop;
}

/** Why a device was not started, and who said so. */
export class StartRefused extends Error {
  override readonly name = "StartRefused";

  constructor(
    readonly by: "guest" | "front-end" | "back-end",
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** Every word of the negotiation, in the order in which they came about. */
export interface NegotiationRecord {
  offeredByBackend: bigint;
  offeredToGuest: bigint;
  acknowledgedByGuest: bigint;
  sentToBackend: bigint;
  protocolFeatures: bigint;
  /** The front-end translates: ring addresses are I/O virtual, and it serves the IOTLB. */
  translates: boolean;
}

export class FrontEnd {
  readonly session: FrontEndSession;
  readonly negotiation: NegotiationRecord = {
    offeredByBackend: 0n,
    offeredToGuest: 0n,
    acknowledgedByGuest: 0n,
    sentToBackend: 0n,
    protocolFeatures: 0n,
    translates: false,
  };
  /** Set where the front-end serves an IOTLB. */
  iotlb: IotlbServer | undefined;
  /** What went wrong with the session after the start; the device is dead then. */
  failure: Error | undefined;

  readonly #options: FrontEndOptions;
  readonly #users: UserAddresses;
  readonly #errorFds: number[] = [];
  #channelToken = -1;
  #queueCount = 0;
  #running = false;

  /** Connects. Throws SystemCallError if nobody listens. */
  constructor(options: FrontEndOptions) {
    this.#options = options;
    this.#users = new UserAddresses(options.ram.slots);
    const fd = createSocket();
    const result = connectUnix(fd, options.socketPath);
    if (result < 0) {
      closeSync(fd);
      throw new SystemCallError("connect", -result, options.socketPath);
    }
    this.session = new FrontEndSession(fd);
  }

  /** Everything before the guest boots. Returns the features that the guest is offered. */
  initialize(): bigint {
    return this.#judged(() => this.#initialize());
  }

  #initialize(): bigint {
    const { profile, machine } = this.#options;
    const { session, negotiation } = this;
    const offered = session.getFeatures();
    negotiation.offeredByBackend = offered;
    const refusal = profile.refuses?.(machine, has(offered, F.ACCESS_PLATFORM));
    if (refusal !== undefined) throw new StartRefused("front-end", refusal);
    if (has(offered, F.PROTOCOL_FEATURES)) {
      negotiation.protocolFeatures = session.getProtocolFeatures() & profile.protocolFeatures;
      session.setProtocolFeatures(negotiation.protocolFeatures);
    }
    if (this.#negotiated(PROTOCOL_F.MQ)) session.getQueueNum();
    if (this.#negotiated(PROTOCOL_F.CONFIGURE_MEM_SLOTS)) session.getMaxMemSlots();
    if (profile.opensBackendChannel && this.#negotiated(PROTOCOL_F.BACKEND_REQ)) this.#openChannel();
    session.setOwner();
    session.getFeatures();
    negotiation.offeredToGuest = (offered & profile.offer.passed) | this.#offeredBit33(offered);
    return negotiation.offeredToGuest;
  }

  #offeredBit33(offered: bigint): bigint {
    const { profile, machine } = this.#options;
    const bit = mask(F.ACCESS_PLATFORM);
    switch (profile.offer.bit33) {
      case "by-option":
        return machine.iommuPlatform ? bit : 0n;
      case "if-protected-and-offered":
        return machine.protectedMemory ? offered & bit : 0n;
      case "as-offered":
        return offered & bit;
      case "never":
        return 0n;
    }
  }

  #openChannel(): void {
    this.session.openBackendChannel();
    this.#channelToken = this.#options.loop.watch(this.session.channelFd, EPOLLIN, {
      onEvents: () => this.#guarded(() => void this.session.serve()),
    });
  }

  /** The guest's context id, from the device's configuration space. */
  readCid(): number {
    return this.#judged(() => {
      const config = this.session.getConfig(0, 8, this.#options.profile.configFlags);
      if (config === undefined) throw new StartRefused("back-end", "it has no configuration space");
      return Number(new DataView(config.buffer, config.byteOffset, 8).getBigUint64(0, true));
    });
  }

  /** DRIVER_OK: tells the back-end of the features, the memory and the rings, and starts them. */
  start(acknowledged: bigint, queues: readonly GuestQueue[]): void {
    this.#judged(() => this.#start(acknowledged, queues));
  }

  #start(acknowledged: bigint, queues: readonly GuestQueue[]): void {
    const { profile, machine } = this.#options;
    const { session, negotiation } = this;
    negotiation.acknowledgedByGuest = acknowledged;
    // QEMU, vhost_dev_has_iommu: the bus says that a vIOMMU translates, and the device was told to use it.
    negotiation.translates = profile.servesIotlb && machine.viommu && machine.iommuPlatform;
    negotiation.sentToBackend = this.#sentFeatures(acknowledged);
    session.setFeatures(negotiation.sentToBackend);
    if (profile.tellsStatus && this.#negotiated(PROTOCOL_F.STATUS)) {
      session.setStatus(session.getStatus() | STATUS.FEATURES_OK);
    }
    this.#shareMemory();
    this.#queueCount = Math.min(profile.queues, queues.length);
    for (let index = 0; index < this.#queueCount; index++) this.#setUpRing(index, queues[index]);
    this.#running = true;
    for (let index = 0; index < this.#queueCount; index++) session.setVringEnable(index, true);
    if (negotiation.translates) this.#startIotlb(queues);
    if (session.backendLeft) throw new StartRefused("back-end", "it closed the session");
  }

  #sentFeatures(acknowledged: bigint): bigint {
    const { profile, machine } = this.#options;
    const passing = profile.acknowledge.bit33;
    const passes =
      passing === "always" || (passing === "behind-viommu" && machine.viommu && machine.iommuPlatform);
    const features = passes ? acknowledged : without(acknowledged, F.ACCESS_PLATFORM);
    // No guest acknowledges bit 30; the front-end has to add it.
    return features | (this.negotiation.offeredByBackend & mask(F.PROTOCOL_FEATURES));
  }

  #shareMemory(): void {
    const regions = this.#users.regions(this.#options.ram.fd);
    if (this.#negotiated(PROTOCOL_F.CONFIGURE_MEM_SLOTS)) {
      for (const region of regions) this.session.addMemReg(region);
    } else {
      this.session.setMemTable(regions);
    }
  }

  #setUpRing(index: number, queue: GuestQueue): void {
    const errorFd = createEventfd();
    this.#errorFds.push(errorFd);
    this.session.setUpRing({
      index,
      size: queue.size,
      addresses: this.negotiation.translates ? queue.addresses : this.#userRing(index, queue),
      kickFd: queue.kickFd,
      callFd: queue.callFd,
      errorFd,
    });
  }

  /** Without translation the driver's addresses are guest-physical, and the back-end is told user addresses. */
  #userRing(index: number, { addresses }: GuestQueue): RingAddresses {
    const user = (address: bigint): bigint => {
      const found = this.#users.ofGpa(Number(address));
      if (found < 0) {
        const where = `0x${address.toString(16)}`;
        throw new StartRefused("front-end", `ring ${index} is at ${where}, which is not guest memory`);
      }
      return BigInt(found);
    };
    return { desc: user(addresses.desc), avail: user(addresses.avail), used: user(addresses.used) };
  }

  #startIotlb(queues: readonly GuestQueue[]): void {
    const { viommu } = this.#options;
    if (viommu === undefined) throw new StartRefused("front-end", "the guest has set up no vIOMMU");
    const iotlb = new IotlbServer(this.session, viommu, this.#users);
    this.iotlb = iotlb;
    this.session.onMiss = (miss) => this.#running && iotlb.miss(miss);
    viommu.onInvalidate((iova, bytes) => {
      if (this.#running && this.failure === undefined) this.#guarded(() => iotlb.invalidate(iova, bytes));
    });
    // vhost_dev_start: the used rings first, so that the back-end can begin.
    for (let index = 0; index < this.#queueCount; index++) {
      iotlb.miss({ iova: queues[index].addresses.used, perm: 3 });
    }
  }

  /** How often the back-end reported each ring as broken, by index. */
  brokenRings(): number[] {
    return this.#errorFds.flatMap((fd, index) => (drainEventfd(fd) > 0 ? [index] : []));
  }

  /** Stops the rings, as QEMU on reset or `stop`. Returns their positions. */
  stop(): number[] {
    const { session } = this;
    this.#running = false;
    const indices = Array.from({ length: this.#queueCount }, (_, index) => index);
    for (const index of indices) session.setVringEnable(index, false);
    const bases = indices.map((index) => session.getVringBase(index));
    if (this.#options.profile.tellsStatus && this.#negotiated(PROTOCOL_F.STATUS)) session.setStatus(0);
    return bases;
  }

  close(): void {
    this.#running = false;
    if (this.#channelToken >= 0 && this.session.channelFd >= 0)
      this.#options.loop.unwatch(this.session.channelFd, this.#channelToken);
    this.#options.viommu?.onInvalidate(() => {});
    this.session.close();
    for (const fd of this.#errorFds.splice(0)) closeSync(fd);
  }

  #negotiated(bit: number): boolean {
    return has(this.negotiation.protocolFeatures, bit);
  }

  /** After the start nobody waits for an exception: the failure is kept, and ends whatever uses the device. */
  #guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof FrontEndError)) throw error;
      this.failure ??= error;
      if (this.#channelToken >= 0 && this.session.channelFd >= 0)
        this.#options.loop.unwatch(this.session.channelFd, this.#channelToken);
      this.#channelToken = -1;
    }
  }

  #judged<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      if (!(error instanceof FrontEndError)) throw error;
      throw new StartRefused("back-end", error.message, { cause: error });
    }
  }
}
