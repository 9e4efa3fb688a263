/**
 * What both players share: a device's life as the profile orders it, the negotiated words, where rings are, and the
 * IOTLB service. How a step becomes a message or a request is the transports': front-end.ts, kernel-front-end.ts.
 * Must not know the device.
 */
import { closeSync } from "node:fs";
import { IdentityDomain, type IoTranslations } from "../guest/io-page-table.js";
import { createEventfd, drainEventfd } from "../linux/eventfd.js";
import type { RingStep, SetupStep } from "../profiles/vmm-profile.js";
import type { RingAddresses } from "../vhost/ring-state.js";
import { describeIotlb, IOTLB_PERM, type IotlbMessage } from "../vhost/wire/index.js";
import { hex } from "../virtio/index.js";
import { IotlbServer, type RemoteIotlb } from "./iotlb-server.js";
import { type DeviceOffer, offerToGuest, refusalOf, tellDevice, translates } from "./negotiation.js";
import {
  type GuestQueue,
  type NegotiationRecord,
  type PlayerParts,
  StartRefused,
  type VmmEvent,
  type VmmPlayer,
} from "./player.js";
import { UserAddresses } from "./user-addresses.js";

/** Thrown where the VMM's process ends; nobody but a player sees it. */
class ProcessEnded extends Error {
  override readonly name = "ProcessEnded";
}

export abstract class BasePlayer implements VmmPlayer {
  readonly negotiation: NegotiationRecord = {
    offeredByBackend: 0n,
    offeredToGuest: 0n,
    acknowledgedByGuest: 0n,
    sentToBackend: 0n,
    protocolFeatures: 0n,
    translates: false,
  };
  /** Set from the start on, where the VMM knows IOTLB messages. */
  iotlb: IotlbServer | undefined;
  failure: Error | undefined;
  died = false;

  protected readonly users: UserAddresses;
  /** From the features on until the stop. */
  protected isRunning = false;
  protected queueCount = 0;
  readonly #errorFds: number[] = [];
  /** Call eventfds of the VMM's own, for queues whose driver is not there yet. */
  readonly #earlyFds: number[] = [];

  constructor(protected readonly parts: PlayerParts) {
    this.users = new UserAddresses(parts.ram.slots);
  }

  // ---- what a transport does -----------------------------------------------------------------------------------

  /** Makes the device's acquaintance. Calls `refuseIfDue` once it knows what it can know now. */
  protected abstract meetDevice(): DeviceOffer;
  /** What the device offers; asks it now if that was put off. */
  protected abstract offerOfDevice(): DeviceOffer;
  protected abstract setUp(step: SetupStep, queues: readonly GuestQueue[]): void;
  protected abstract setUpRing(step: RingStep, index: number, queue: GuestQueue): void;
  /** The error of the transport that means "the device did not do it"; undefined for anything else. */
  protected abstract refusalByDevice(error: unknown): string | undefined;
  protected abstract readonly remoteIotlb: RemoteIotlb;
  /** Takes back what lets the device work, in the middle of a start. */
  protected abstract disableRings(): void;
  /** The process is gone: closes what the device would see closed. */
  protected abstract abandon(): void;

  abstract readCid(): number;
  abstract serve(): number;
  abstract stop(): number[];

  // ---- the life of a device ------------------------------------------------------------------------------------

  initialize(): bigint {
    return this.judged(() => {
      const { profile, machine } = this.parts;
      const { features } = this.meetDevice();
      const offer = offerToGuest(profile, machine, features);
      this.negotiation.offeredToGuest = offer.features;
      this.tell({ kind: "guest-offer", ...offer });
      return offer.features;
    });
  }

  start(acknowledged: bigint, queues: readonly GuestQueue[]): void {
    this.judged(() => {
      const { profile, machine, viommu } = this.parts;
      const { negotiation } = this;
      negotiation.acknowledgedByGuest = acknowledged;
      negotiation.translates = translates(profile, machine);
      if (negotiation.translates && machine.viommu && viommu === undefined)
        throw this.refused("the guest has set up no vIOMMU");
      const offer = this.offerOfDevice();
      this.refuseIfDue(offer, acknowledged);
      const told = tellDevice(profile, machine, offer.features ?? 0n, acknowledged);
      negotiation.sentToBackend = told.features;
      this.tell({ kind: "passed-on", acknowledged, sent: told.features, because: told.because });
      this.queueCount = Math.min(profile.queues, queues.length);
      this.isRunning = true;
      this.#serveIotlb();
      this.#walk(queues);
    });
  }

  close(): void {
    this.isRunning = false;
    this.parts.viommu?.onInvalidate(() => {});
    for (const fd of [...this.#errorFds.splice(0), ...this.#earlyFds.splice(0)]) closeSync(fd);
  }

  /** How often the device reported each ring as broken, by index. */
  brokenRings(): number[] {
    return this.#errorFds.flatMap((fd, index) => (drainEventfd(fd) > 0 ? [index] : []));
  }

  #walk(queues: readonly GuestQueue[]): void {
    for (const entry of this.parts.profile.order) {
      if (typeof entry === "string") {
        this.setUp(entry, queues);
        continue;
      }
      for (let index = 0; index < this.queueCount; index++) {
        for (const step of entry) this.setUpRing(step, index, queues[index]);
      }
    }
  }

  /** Ring steps that a VMM does for a driver that is not there yet. */
  protected setUpEarly(): void {
    const { earlyRings, queues } = this.parts.profile;
    for (let index = 0; index < queues && earlyRings.length > 0; index++) {
      const callFd = createEventfd();
      this.#earlyFds.push(callFd);
      const addresses = { desc: 0n, avail: 0n, used: 0n };
      for (const step of earlyRings) this.setUpRing(step, index, { size: 0, addresses, kickFd: -1, callFd });
    }
  }

  protected errorFd(index: number): number {
    this.#errorFds[index] ??= createEventfd();
    return this.#errorFds[index];
  }

  protected refuseIfDue(offer: DeviceOffer, acknowledged?: bigint): void {
    const { profile, machine } = this.parts;
    const refusal = refusalOf(profile, machine, offer, acknowledged);
    if (refusal !== undefined) throw this.refused(refusal.says);
  }

  protected refused(text: string): StartRefused {
    this.tell({ kind: "refused", text });
    return new StartRefused("front-end", text);
  }

  // ---- addresses -----------------------------------------------------------------------------------------------

  /** What SET_VRING_ADDR says of a ring. */
  protected ringAddresses(index: number, { addresses }: GuestQueue): RingAddresses {
    if (this.negotiation.translates || this.parts.profile.ringAddresses === "guest-physical")
      return addresses;
    // Without translation the driver's addresses are guest-physical, and the device is told user addresses.
    const user = (address: bigint): bigint => {
      const found = this.users.ofGpa(Number(address));
      if (found < 0) throw this.refused(`ring ${index} is at ${hex(address)}, which is not guest memory`);
      return BigInt(found);
    };
    return { desc: user(addresses.desc), avail: user(addresses.avail), used: user(addresses.used) };
  }

  // ---- IOTLB ---------------------------------------------------------------------------------------------------

  #serveIotlb(): void {
    const { profile, viommu } = this.parts;
    if (!profile.iotlb.serves || this.iotlb !== undefined) return;
    const iotlb = new IotlbServer(this.remoteIotlb, this.#translations(), this.users);
    this.iotlb = iotlb;
    const { invalidates } = profile.iotlb;
    if (!this.negotiation.translates || invalidates === "never") return;
    viommu?.onInvalidate((iova, bytes, reach) => {
      if (!this.isRunning || this.failure !== undefined) return;
      if (invalidates === "strict-only" && reach === "everything") return;
      this.guarded(() => iotlb.invalidate(iova, bytes));
    });
  }

  /** Without a vIOMMU in front of the device, its address space is the memory itself (QEMU: `dma_as`). */
  #translations(): IoTranslations {
    const { machine, viommu, ram } = this.parts;
    const isBehind = machine.viommu && machine.iommuPlatform && viommu !== undefined;
    return isBehind ? viommu.translations : new IdentityDomain(ram);
  }

  /** QEMU, `vhost_dev_start`: the used rings first, so that the device can begin. */
  protected pushUsedRings(queues: readonly GuestQueue[]): void {
    const { iotlb } = this;
    if (!this.negotiation.translates || iotlb === undefined) return;
    for (const [index, { addresses }] of queues.slice(0, this.queueCount).entries()) {
      const unanswered = iotlb.unanswered;
      if (iotlb.miss({ iova: addresses.used, perm: IOTLB_PERM.readWrite })) continue;
      if (this.parts.profile.iotlb.unmappedUsedRing === "ignored") continue;
      const why = iotlb.unanswered > unanswered ? "the guest has not mapped it" : "the device refuses it";
      this.isRunning = false;
      this.disableRings();
      throw new StartRefused("back-end", `the used ring of queue ${index} cannot be mapped, as ${why}`);
    }
  }

  /** Whether a MISS was answered with a mapping; undefined if it is not to be answered at all. */
  protected miss(miss: IotlbMessage): boolean | undefined {
    const { iotlb } = this;
    this.tell({ kind: "begins" });
    if (iotlb === undefined) return this.#unexpectedMiss(miss);
    const isMapped = this.isRunning && iotlb.miss(miss);
    const refusal = this.isRunning ? "nothing is mapped there for that" : "the device is stopped";
    this.#tellQuestion(miss, isMapped ? "mapped" : refusal);
    return isMapped;
  }

  #unexpectedMiss(miss: IotlbMessage): boolean | undefined {
    const { profile } = this.parts;
    switch (profile.iotlb.unexpectedMiss) {
      case "ignored":
        this.#tellQuestion(miss, `${profile.program} knows no IOTLB messages and says nothing`);
        return undefined;
      case "refused":
        this.#tellQuestion(miss, `${profile.program} knows no IOTLB messages and refuses`);
        return false;
      case "dies": {
        const text = `${profile.program} ends at an IOTLB message: ${describeIotlb(miss)}`;
        this.#tellQuestion(miss, `${profile.program} knows no IOTLB messages and ends`);
        throw this.#die(text);
      }
    }
  }

  #tellQuestion(miss: IotlbMessage, answer: string): void {
    this.tell({ kind: "question", text: describeIotlb(miss), answer });
  }

  #die(text: string): Error {
    this.died = true;
    this.isRunning = false;
    this.failure = new ProcessEnded(text);
    this.tell({ kind: "died", text });
    return this.failure;
  }

  // ---- failures ------------------------------------------------------------------------------------------------

  protected tell(event: VmmEvent): void {
    this.parts.observer?.(event);
  }

  /** Before the guest's driver runs: what the device does not do is a refusal. */
  protected judged<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      if (error instanceof ProcessEnded) {
        this.abandon();
        throw new StartRefused("front-end", error.message, { cause: error });
      }
      const text = this.refusalByDevice(error);
      if (text === undefined) throw error;
      throw new StartRefused("back-end", text, { cause: error });
    }
  }

  /** After the start nobody waits for an exception: the failure is kept, and ends whatever uses the device. */
  protected guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      if (!(error instanceof ProcessEnded) && this.refusalByDevice(error) === undefined) throw error;
      this.failure ??= error instanceof Error ? error : new Error(String(error));
      if (this.died) this.abandon();
    }
  }
}
