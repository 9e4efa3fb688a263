/**
 * A guest and its VMM together: boots the built-in guest on a machine, with one vsock device behind a vhost-user
 * socket. For the demo, tests and whoever needs a VM without a VM.
 */
import { chooseFeatures } from "../guest/features.js";
import type { Framing } from "../guest/framing.js";
import { createPlatform, type Platform, type PlatformOptions } from "../guest/platform.js";
import { VsockDriver } from "../guest/vsock-driver.js";
import { EventLoop } from "../linux/event-loop.js";
import { signalEventfd } from "../linux/eventfd.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { FrontEnd } from "./front-end.js";
import { LoopPump } from "./loop-pump.js";
import type { MachineOptions } from "./negotiation.js";
import { type NegotiationRecord, StartRefused, type VmmObserver } from "./player.js";

export interface VirtualMachineOptions {
  readonly socketPath: string;
  /** Of a VMM that speaks vhost-user. */
  readonly profile: VmmProfile;
  /** What the guest is; its DMA has to suit `machine`. */
  readonly platform: PlatformOptions;
  /** What differs from the machine that such a guest runs on (`machineFor`). */
  readonly machine?: Partial<MachineOptions>;
  readonly queueSize?: number;
  readonly framing?: Framing;
  readonly bufferBytes?: number;
  /** Features that the guest does not know. */
  readonly unknownBits?: bigint;
  /** Hears of every message. */
  readonly observer?: VmmObserver;
}

/** The machine on which a guest of a kind is at home. */
export function machineFor(kind: PlatformOptions["kind"]): MachineOptions {
  return {
    iommuPlatform: kind !== "direct",
    protectedMemory: kind === "restricted" || kind === "protected",
    viommu: kind === "viommu" || kind === "passthrough",
  };
}

export class VirtualMachine {
  readonly loop: EventLoop;
  readonly platform: Platform;
  /** The session with the back-end; `reconnect` begins another. */
  frontEnd: FrontEnd;
  readonly driver: VsockDriver;
  readonly #pump: LoopPump;
  readonly #options: VirtualMachineOptions;
  readonly #ownsPlatform: boolean;

  /**
   * Boots: negotiates, sets the rings up, starts the device. Throws StartRefused if somebody says no. A platform that
   * is given (rebooting a guest) stays its owner's.
   */
  constructor(options: VirtualMachineOptions, platform?: Platform) {
    this.loop = new EventLoop();
    this.platform = platform ?? createPlatform(options.platform);
    this.#ownsPlatform = platform === undefined;
    this.#options = options;
    this.frontEnd = this.#connect(options.socketPath);
    try {
      this.driver = this.#boot(options);
    } catch (error) {
      this.frontEnd.close();
      throw error;
    }
    this.#pump = new LoopPump(this.loop);
  }

  #boot(options: VirtualMachineOptions): VsockDriver {
    const { frontEnd, platform, loop } = this;
    const offered = frontEnd.initialize();
    const choice = chooseFeatures(platform.kind, offered, { unknownBits: options.unknownBits ?? 0n });
    if (!choice.ok) throw new StartRefused("guest", choice.reason);
    const driver = new VsockDriver({
      platform,
      loop,
      features: choice.acknowledged,
      readCid: () => this.frontEnd.readCid(),
      ...(options.queueSize === undefined ? {} : { queueSize: options.queueSize }),
      ...(options.framing === undefined ? {} : { framing: options.framing }),
      ...(options.bufferBytes === undefined ? {} : { bufferBytes: options.bufferBytes }),
    });
    try {
      frontEnd.start(choice.acknowledged, driver.queues);
    } catch (error) {
      driver.release();
      throw error;
    }
    driver.start();
    return driver;
  }

  #connect(socketPath: string): FrontEnd {
    const { profile, machine } = this.#options;
    const { ram, viommu, kind } = this.platform;
    return new FrontEnd({
      socket: socketPath,
      profile,
      machine: { ...machineFor(kind), ...machine },
      ram,
      viommu,
      loop: this.loop,
      observer: this.#options.observer,
    });
  }

  /**
   * The guest goes on running with another back-end, or the same one restarted: a new session takes its rings up at
   * `positions`; by default at their used index, which is what a VMM reads from memory when the back-end has died.
   * `beforeStart`: what this VMM does between the negotiation and the start.
   */
  reconnect(
    options: {
      readonly socketPath?: string;
      readonly positions?: readonly number[];
      readonly beforeStart?: (frontEnd: FrontEnd) => void;
    } = {},
  ): void {
    const acknowledged = this.negotiation.acknowledgedByGuest;
    this.frontEnd.close();
    this.frontEnd = this.#connect(options.socketPath ?? this.#options.socketPath);
    this.frontEnd.initialize();
    options.beforeStart?.(this.frontEnd);
    const queues = this.driver.queues.map((queue, index) => ({
      size: queue.size,
      addresses: queue.addresses,
      kickFd: queue.kickFd,
      callFd: queue.callFd,
      base: options.positions?.[index] ?? queue.base,
    }));
    this.frontEnd.start(acknowledged, queues);
    // The new back-end may have missed what the old one was kicked for.
    for (const { kickFd } of queues) signalEventfd(kickFd);
  }

  get negotiation(): NegotiationRecord {
    return this.frontEnd.negotiation;
  }

  /** Switches the machine off: stops the device as a VMM does, unless it is gone already. */
  close(): void {
    this.#pump.stop();
    if (this.frontEnd.failure === undefined && !this.frontEnd.session.backendLeft) this.frontEnd.stop();
    this.frontEnd.close();
    this.driver.release();
    this.loop.close();
    if (this.#ownsPlatform) this.platform.ram.close();
  }

  /** The VMM dies: the connection closes with rings running. */
  kill(): void {
    this.#pump.stop();
    this.frontEnd.close();
    this.driver.release();
    this.loop.close();
    if (this.#ownsPlatform) this.platform.ram.close();
  }
}
