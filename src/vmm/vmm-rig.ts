/**
 * For tests of this folder: a guest with queues that nobody runs, and a player of any profile between it and a device
 * that follows a script (scripted-rig.ts), all in one thread. Not part of the product.
 */
import { closeSync } from "node:fs";
import { createPlatform, type Platform, type PlatformOptions } from "../guest/platform.js";
import { EventLoop } from "../linux/event-loop.js";
import { createEventfd } from "../linux/eventfd.js";
import { socketPair } from "../linux/unix-socket.js";
import { builtinVmm } from "../profiles/builtin.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { F, maskOf, PROTOCOL_F } from "../virtio/index.js";
import { FrontEnd } from "./front-end.js";
import { KernelFrontEnd } from "./kernel-front-end.js";
import type { MachineOptions } from "./negotiation.js";
import { type GuestQueue, StartRefused, type VmmEvent } from "./player.js";
import { ScriptedBackend, ScriptedKernel } from "./scripted-rig.js";

export const PLAIN: MachineOptions = { iommuPlatform: false, protectedMemory: false, viommu: false };
export const PROTECTED: MachineOptions = { iommuPlatform: true, protectedMemory: true, viommu: false };
export const BEHIND_VIOMMU: MachineOptions = { iommuPlatform: true, protectedMemory: false, viommu: true };

/** What a back-end with everything offers that matters here. */
export const RICH = {
  features: maskOf(
    F.VERSION_1,
    F.EVENT_IDX,
    F.INDIRECT_DESC,
    F.RING_RESET,
    F.PROTOCOL_FEATURES,
    F.ACCESS_PLATFORM,
  ),
  protocolFeatures: maskOf(
    PROTOCOL_F.MQ,
    PROTOCOL_F.REPLY_ACK,
    PROTOCOL_F.BACKEND_REQ,
    PROTOCOL_F.CONFIG,
    PROTOCOL_F.RESET_DEVICE,
    PROTOCOL_F.CONFIGURE_MEM_SLOTS,
    PROTOCOL_F.STATUS,
  ),
};

/** A built-in profile with some things changed. */
export function vmmLike(
  name: string,
  change: Partial<Omit<VmmProfile, "offer" | "acknowledge" | "iotlb">> & {
    readonly offer?: Partial<VmmProfile["offer"]>;
    readonly acknowledge?: Partial<VmmProfile["acknowledge"]>;
    readonly iotlb?: Partial<VmmProfile["iotlb"]>;
  } = {},
): VmmProfile {
  const base = builtinVmm(name);
  return {
    ...base,
    ...change,
    offer: { ...base.offer, ...change.offer },
    acknowledge: { ...base.acknowledge, ...change.acknowledge },
    iotlb: { ...base.iotlb, ...change.iotlb },
  };
}

const QUEUE_SIZE = 16;

/** Three queues in the guest's memory, a page each. */
export class Guest {
  readonly platform: Platform;
  readonly queues: readonly GuestQueue[];

  constructor(options: PlatformOptions) {
    this.platform = createPlatform(options);
    this.queues = [0, 1, 2].map(() => {
      const { bus } = this.platform.mapper.allocateCoherent(4096);
      const addresses = { desc: bus, avail: bus + 0x800n, used: bus + 0xc00n };
      return { size: QUEUE_SIZE, addresses, kickFd: createEventfd(), callFd: createEventfd() };
    });
  }

  close(): void {
    for (const { kickFd, callFd } of this.queues) for (const fd of [kickFd, callFd]) closeSync(fd);
    this.platform.ram.close();
  }
}

export interface PlayOptions {
  readonly profile: VmmProfile;
  readonly machine: MachineOptions;
  readonly kind?: PlatformOptions["kind"];
  readonly unmapping?: "strict" | "lazy";
}

/** A front-end and a back-end that follows a script. */
export class UserRig {
  readonly guest: Guest;
  readonly backend: ScriptedBackend;
  readonly frontEnd: FrontEnd;
  readonly loop = new EventLoop();
  readonly events: VmmEvent[] = [];

  constructor(options: PlayOptions, offer: { features: bigint; protocolFeatures: bigint } = RICH) {
    const { profile, machine, kind = "direct", unmapping = "strict" } = options;
    this.guest = new Guest({ kind, unmapping });
    const [ours, theirs] = socketPair();
    this.backend = new ScriptedBackend(theirs, offer);
    const { ram, viommu } = this.guest.platform;
    this.frontEnd = new FrontEnd({
      socket: ours,
      profile,
      machine,
      ram,
      viommu,
      loop: this.loop,
      observer: (event) => this.events.push(event),
      session: { pump: () => this.backend.turn(1), timeoutMs: 200 },
    });
  }

  /** From the connection to the running device. The guest takes what it is offered. */
  run(acknowledged?: bigint): void {
    const offered = this.frontEnd.initialize();
    this.frontEnd.readCid();
    this.frontEnd.start(acknowledged ?? offered, this.guest.queues);
    this.backend.turn();
  }

  /** What was heard after the first `from` messages. */
  heardFrom(from: number): string[] {
    return this.backend.heard.slice(from);
  }

  close(): void {
    this.frontEnd.close();
    this.backend.close();
    this.loop.close();
    this.guest.close();
  }
}

/** A player and a kernel that follows a script. */
export class KernelRig {
  readonly guest: Guest;
  readonly kernel: ScriptedKernel;
  readonly player: KernelFrontEnd;
  readonly events: VmmEvent[] = [];

  constructor(options: PlayOptions, features: bigint) {
    const { profile, machine, kind = "direct", unmapping = "strict" } = options;
    this.guest = new Guest({ kind, unmapping });
    this.kernel = new ScriptedKernel(features);
    const { ram, viommu } = this.guest.platform;
    this.player = new KernelFrontEnd({
      vhost: this.kernel,
      cid: 42,
      profile,
      machine,
      ram,
      viommu,
      observer: (event) => this.events.push(event),
    });
  }

  run(acknowledged?: bigint): void {
    const offered = this.player.initialize();
    this.player.start(acknowledged ?? offered, this.guest.queues);
  }

  close(): void {
    this.player.close();
    this.guest.close();
  }
}

/** The refusal that `action` ends with. */
export function refusalIn(action: () => void): StartRefused {
  try {
    action();
  } catch (error) {
    if (error instanceof StartRefused) return error;
    throw error;
  }
  throw new Error("nobody refused");
}

/** Runs `body` and closes what it ran with. */
export function using<T extends { close(): void }>(rig: T, body: (rig: T) => void): void {
  try {
    body(rig);
  } finally {
    rig.close();
  }
}
