/**
 * The state of one back-end session and the rules that connect its parts: negotiated words, memory, rings, IOTLB and
 * the translation mode. Message handlers change it and `settle` draws the consequences: which rings stop, whether the
 * mode is decided now, which rings start. Must not know bytes or the session's socket (backend-session.ts).
 */

import type { EventLoop } from "../linux/event-loop.js";
import type { Timer } from "../linux/timers.js";
import type { Logger } from "../log/logger.js";
import { GuestMemory } from "../memory/guest-memory.js";
import { SegmentList } from "../memory/segments.js";
import { TableSpace } from "../memory/table-space.js";
import { type AccessWatcher, WatchedSpace } from "../memory/watched-space.js";
import { F, has, hex, mask, maskOf, PROTOCOL_F, without } from "../virtio/index.js";
import { isQueueSize } from "../virtqueue/layout.js";
import type { BackendDevice, SessionPolicy } from "./backend-device.js";
import { StateTransfer, type TransferState } from "./device-state.js";
import { DirtyLogging } from "./dirty-logging.js";
import type { InflightFile } from "./inflight.js";
import { IotlbLink } from "./iotlb-link.js";
import { ringAreas } from "./ring-areas.js";
import type { RingState } from "./ring-state.js";
import { type RingSpaces, Rings } from "./rings.js";
import { Translation } from "./translation.js";
import type { NegotiatedWords } from "./wire/index.js";

/** What is offered of the protocol: what is implemented here, and nothing else. The draft's IOTLB bit is apart. */
export const IMPLEMENTED_PROTOCOL_FEATURES = maskOf(
  PROTOCOL_F.MQ,
  PROTOCOL_F.LOG_SHMFD,
  PROTOCOL_F.REPLY_ACK,
  PROTOCOL_F.BACKEND_REQ,
  PROTOCOL_F.CONFIG,
  PROTOCOL_F.RESET_DEVICE,
  PROTOCOL_F.CONFIGURE_MEM_SLOTS,
  PROTOCOL_F.STATUS,
  PROTOCOL_F.INFLIGHT_SHMFD,
  PROTOCOL_F.DEVICE_STATE,
  PROTOCOL_F.GPA_ADDRESSES,
);

/** Every protocol feature that a session under this policy offers. `--print-capabilities` and tests ask as well. */
export function offeredProtocolFeatures(policy: SessionPolicy): bigint {
  return policy.iotlb === "explicit"
    ? IMPLEMENTED_PROTOCOL_FEATURES | mask(policy.explicitBit)
    : IMPLEMENTED_PROTOCOL_FEATURES;
}

/** Every virtio feature that a session of this device under this policy offers. */
export function offeredFeatures(device: BackendDevice, policy: SessionPolicy): bigint {
  const own = without(device.features, F.ACCESS_PLATFORM) | maskOf(F.PROTOCOL_FEATURES, F.LOG_ALL);
  return policy.accessPlatform ? own | mask(F.ACCESS_PLATFORM) : own;
}

export interface SessionParts {
  readonly loop: EventLoop;
  readonly device: BackendDevice;
  readonly policy: SessionPolicy;
  readonly log: Logger;
  /** Is told of every range that the device resolves, and may deny it. Not for a served device. */
  readonly watcher?: AccessWatcher;
}

export class SessionCore {
  readonly device: BackendDevice;
  readonly policy: SessionPolicy;
  readonly log: Logger;
  readonly offeredFeatures: bigint;
  readonly offeredProtocolFeatures: bigint;
  readonly memory = new GuestMemory();
  readonly link: IotlbLink;
  readonly rings: Rings;
  readonly logging: DirtyLogging;
  readonly translation: Translation;
  /** Acknowledged and accepted. */
  features = 0n;
  protocolFeatures = 0n;
  status = 0;

  readonly #loop: EventLoop;
  readonly #watcher: AccessWatcher | undefined;
  #probation: Timer | undefined;
  #memoryCame = false;
  /** The latest decision that was logged. */
  #logged = "";
  #saidUnsealed = false;
  #transfer: StateTransfer | undefined;
  #inflight: InflightFile | undefined;
  #hasOwner = false;

  constructor({ loop, device, policy, log, watcher }: SessionParts) {
    this.#loop = loop;
    this.#watcher = watcher;
    this.device = device;
    this.policy = policy;
    this.log = log;
    this.offeredFeatures = offeredFeatures(device, policy);
    this.offeredProtocolFeatures = offeredProtocolFeatures(policy);
    this.translation = new Translation(policy.iotlb, policy.probationMs);
    this.logging = new DirtyLogging(this.memory, log, () => this.ringLogsChanged());
    this.rings = new Rings(device, this.memory.views, log, this.logging, () => this.#ringsChanged());
    const listener = {
      channelOpened: () => this.translation.channelOpened(),
      retry: () => this.memoryCame(),
    };
    this.link = new IotlbLink(this.memory, loop, log, listener, policy.missTimeoutMs);
  }

  /** What gates and reply rules of messages depend on. */
  get words(): NegotiatedWords {
    const { offeredFeatures, features, protocolFeatures, policy } = this;
    const words = { offeredFeatures, features, protocolFeatures };
    return policy.iotlb === "explicit" ? { ...words, explicitIotlbBit: policy.explicitBit } : words;
  }

  /** The driver's rings are packed ones. */
  get isPacked(): boolean {
    return has(this.features, F.RING_PACKED);
  }

  hasExplicitIotlb(protocolFeatures: bigint): boolean {
    return this.policy.iotlb === "explicit" && has(protocolFeatures, this.policy.explicitBit);
  }

  /**
   * SET_FEATURES with bits that are accepted. Where no ring runs a new negotiation epoch begins (translation.ts) with
   * an empty IOTLB: QEMU stops telling about mappings once it has stopped the device, so old ones may be stale. Not so
   * a front-end of the explicit IOTLB: it owns its mappings, and SET_FEATURES has nothing to do with them.
   */
  acknowledgeFeatures(features: bigint): void {
    const toggles = has(this.features ^ features, F.ACCESS_PLATFORM);
    if (toggles && this.policy.iotlb === "auto") this.#voidAddresses("bit 33 changed");
    if (has(this.features ^ features, F.RING_PACKED)) this.#changeLayout(has(features, F.RING_PACKED));
    this.features = features;
    this.logging.setFeature(has(features, F.LOG_ALL));
    if (!this.rings.anyRunning) this.#beginEpoch({ keepsMappings: this.policy.iotlb === "explicit" });
    // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state."
    if (!has(features, F.PROTOCOL_FEATURES)) for (const ring of this.rings.all) ring.enabled = true;
  }

  /** What was set up for rings of the other layout means nothing in this one. */
  #changeLayout(isPacked: boolean): void {
    this.#voidAddresses("RING_PACKED changed");
    for (const ring of this.rings.all) if (!isPacked && !isQueueSize(ring.size)) ring.size = 0;
  }

  /** SET_PROTOCOL_FEATURES with bits that were offered, while no ring runs. */
  acknowledgeProtocolFeatures(protocolFeatures: bigint): void {
    const changed = this.protocolFeatures ^ protocolFeatures;
    const isExplicit = this.policy.iotlb === "explicit";
    if (has(changed, PROTOCOL_F.GPA_ADDRESSES)) this.#voidAddresses("GPA_ADDRESSES changed");
    if (this.hasExplicitIotlb(changed)) this.#voidAddresses("the explicit IOTLB changed");
    this.protocolFeatures = protocolFeatures;
    this.memory.guestAddressesOnly = has(protocolFeatures, PROTOCOL_F.GPA_ADDRESSES);
    this.translation.setExplicitFeature(this.hasExplicitIotlb(protocolFeatures));
    this.#beginEpoch({ keepsMappings: isExplicit && !this.hasExplicitIotlb(changed) });
  }

  /**
   * Ring addresses of before would be read in another address space. Linux clears them too
   * (vhost_vq_invalidate_access): SET_VRING_ADDR has to follow.
   */
  #voidAddresses(why: string): void {
    this.rings.stopAll(`${why}, and with it what ring addresses mean`);
    for (const ring of this.rings.all) {
      if (ring.addresses !== undefined) ring.voided = `${why} after its addresses had been set`;
      ring.addresses = undefined;
    }
  }

  #beginEpoch({ keepsMappings }: { readonly keepsMappings: boolean }): void {
    if (!keepsMappings) this.link.clear();
    this.translation.beginEpoch(has(this.features, F.ACCESS_PLATFORM), this.link.hasChannel);
    this.#logged = "";
  }

  /** RESET_DEVICE, or status 0. Memory, protocol features, channel, call and error eventfds stay: QEMU sends none anew. */
  resetDevice(why: string): void {
    this.rings.stopAll(why);
    for (const ring of this.rings.all) ring.reset();
    this.features = 0n;
    this.logging.setFeature(false);
    this.status = 0;
    this.#beginEpoch({ keepsMappings: false });
    this.device.reset();
  }

  /**
   * SET_OWNER: "can be used on the back-end as a 'session start' flag", and has to be where it comes again. QEMU keeps the
   * connection of a character device whose vsock device is unplugged and hands it to the next one that is plugged in,
   * which adds the memory that this session has already. What that one has sent before its SET_OWNER stays: the protocol
   * features and the channel.
   */
  takeOwner(): void {
    if (this.#hasOwner) this.#startOver("SET_OWNER came again: another device of the front-end begins");
    this.#hasOwner = true;
  }

  #startOver(why: string): void {
    this.resetDevice(why);
    this.#giveBack();
    this.log.log({ event: "session-restart", message: why });
  }

  /** SET_INFLIGHT_FD, while no ring runs. */
  useInflight(file: InflightFile): void {
    if (!file.isSealed) this.noteUnsealed("the inflight region");
    const before = this.#inflight;
    this.#inflight = file;
    this.rings.inflight = file;
    this.device.useTable?.(file.table);
    before?.close();
  }

  /** What outlives this session is another's to change now. */
  #leaveInflight(): void {
    this.rings.inflight = undefined;
    this.#inflight?.close();
    this.#inflight = undefined;
  }

  /** SET_DEVICE_STATE_FD, while no ring runs: writes the device's state to `fd`, or reads it there. Owns `fd`. */
  transferState(fd: number, direction: "save" | "load"): void {
    this.#transfer?.close();
    const { device } = this;
    const bytes = direction === "save" ? (device.saveState?.() ?? new Uint8Array(0)) : undefined;
    this.#transfer = new StateTransfer(this.#loop, fd, bytes, (loaded) => {
      if (this.rings.anyRunning) return "a ring was started meanwhile";
      if (device.loadState === undefined) return "this device has no state";
      return device.loadState(loaded);
    });
  }

  /** How the latest transfer stands; undefined if there was none. */
  checkState(): TransferState | undefined {
    return this.#transfer?.check();
  }

  /** What is logged has changed, or for which ring. */
  ringLogsChanged(): void {
    for (const ring of this.rings.all) this.rings.logUsedRing(ring, this.translation.state === "on");
  }

  /** Memory or mappings came: blocked rings try again once all messages of this wake-up are handled. */
  memoryCame(): void {
    this.#memoryCame = true;
  }

  /** A region came with a file that can become shorter: says once what that may lead to. */
  noteUnsealed(region: string): void {
    if (this.#saidUnsealed) return;
    this.#saidUnsealed = true;
    this.log.log({
      event: "memory-not-sealed",
      message:
        `the file behind ${region} is not sealed against shrinking (F_SEAL_SHRINK): a VMM that truncates it ends ` +
        "this process, and every VM's device with it, by SIGBUS",
    });
  }

  /**
   * Draws the consequences of a message: decides the mode if it can be, stops rings whose memory is gone, starts the
   * rings that may run. Returns why a ring that could run otherwise is refused, if that was decided just now.
   */
  settle(): string | undefined {
    this.#gatherEvidence();
    this.#keepProbationTimer();
    const problem = this.#reportDecision();
    if (this.translation.decided) for (const ring of this.rings.ready) this.#runOrHold(ring);
    for (const ring of this.rings.all) this.#holdVoided(ring);
    return problem;
  }

  /** A front-end that sets addresses first and changes their meaning then would otherwise wait without a word. */
  #holdVoided(ring: RingState): void {
    if (ring.voided === undefined || ring.held || !ring.started || !ring.enabled || ring.broken) return;
    this.rings.hold(ring, `${ring.voided}, which makes them void; SET_VRING_ADDR has to come again`);
  }

  /**
   * With CONFIGURE_MEM_SLOTS a region can be changed only by REM_MEM_REG and ADD_MEM_REG, so ring areas may go away for
   * a moment: the ring stops, and goes on where it was. Behind an IOTLB a mapping that is gone does the same (MISS).
   * No message is refused for a ring that waits: the one that is obeyed here may be the memory that it waits for.
   */
  #runOrHold(ring: RingState): void {
    const outside = this.translation.state === "off" ? this.#areaOutside(ring) : undefined;
    // Without memory there is nothing to run in; a front-end may send it last.
    const hasMemory = this.memory.regions.length > 0;
    if (outside === undefined) {
      ring.held = false;
      if (hasMemory && ring.running === undefined) this.rings.start(ring, this.#spaces(), this.features);
    } else if (ring.running !== undefined) {
      ring.held = true;
      this.rings.stop(ring, `the memory of its rings was taken away: ${outside} of the memory table`);
    } else if (hasMemory && !ring.held) {
      this.rings.hold(ring, `${outside} of the memory table`);
    }
  }

  /** After the events of a wake-up: lets blocked rings go on, then asks for what is missing. */
  afterEvents(): void {
    if (this.#memoryCame) {
      this.#memoryCame = false;
      this.device.memoryAvailable();
    }
    this.link.flush();
  }

  /** Stops everything and gives back what the front-end lent. */
  close(why: string): void {
    this.rings.stopAll(why);
    this.#probation?.cancel();
    this.#probation = undefined;
    this.link.close();
    this.#giveBack();
  }

  /** Lets go of what the front-end lent, the channel apart. No ring runs. */
  #giveBack(): void {
    this.logging.close();
    this.#transfer?.close();
    this.#transfer = undefined;
    this.device.useTable?.(new Uint32Array(0));
    this.#leaveInflight();
    for (const ring of this.rings.all) ring.closeDescriptors();
    this.memory.clear();
  }

  #gatherEvidence(): void {
    const { translation } = this;
    if (translation.decided) return;
    const isAnyReady = this.rings.ready.length > 0 && this.memory.regions.length > 0;
    if (!isAnyReady) {
      translation.ringsGone();
      return;
    }
    // Rings that are set up but not started yet are evidence as well: QEMU enables them one by one.
    const outside = this.rings.all.map((ring) => this.#areaOutside(ring)).find((note) => note !== undefined);
    if (outside === undefined) translation.ringsReady("inside", "all ring areas lie in the memory table");
    else translation.ringsReady("outside", outside);
  }

  /** The first area of a ring that is not in the ranges of the memory table, in words. */
  #areaOutside(ring: RingState): string | undefined {
    const areas = ringAreas(ring, this.features);
    const found = areas.find(({ address, bytes }) => !this.#isInTable(address, bytes));
    return found && `the ${found.name} of queue ${ring.index} at ${hex(found.address)} lies outside`;
  }

  /** Under GPA_ADDRESSES the memory table's user addresses are its guest-physical ones. */
  #isInTable(address: bigint, length: number): boolean {
    return (
      address + BigInt(length) <= BigInt(Number.MAX_SAFE_INTEGER) &&
      this.memory.resolveUva(Number(address), length, new SegmentList(4))
    );
  }

  #keepProbationTimer(): void {
    if (!this.translation.onProbation) {
      this.#probation?.cancel();
      this.#probation = undefined;
    } else {
      this.#probation ??= this.#loop.setTimer(this.policy.probationMs, () => this.#endProbation());
    }
  }

  #endProbation(): void {
    this.#probation = undefined;
    this.translation.probationOver();
    this.settle();
  }

  /** Logs a decision or refusal once. Returns the explanation of a new refusal. */
  #reportDecision(): string | undefined {
    const { record } = this.translation;
    if (record.state === "undecided") return undefined;
    if (this.translation.decided && this.rings.ready.length === 0) return undefined;
    const key = `${record.state} ${record.reason}`;
    if (key === this.#logged) return undefined;
    this.#logged = key;
    this.log.log({
      event: "translation-mode",
      message: record.explanation,
      fields: { mode: record.state, reason: record.reason, evidence: record.evidence.join("; ") },
    });
    if (record.state !== "refused") return undefined;
    for (const ring of this.rings.ready) this.rings.signalError(ring);
    return record.explanation;
  }

  #spaces(): RingSpaces {
    const { ring, buffer } = this.#plainSpaces();
    const watcher = this.#watcher;
    if (watcher === undefined) return { ring, buffer };
    return {
      ring: new WatchedSpace(ring, "ring", this.memory, watcher),
      buffer: new WatchedSpace(buffer, "buffer", this.memory, watcher),
    };
  }

  #plainSpaces(): RingSpaces {
    if (this.translation.state === "on") return { ring: this.link.newSpace(), buffer: this.link.newSpace() };
    const buffer = new TableSpace("gpa", this.memory);
    return { ring: this.memory.guestAddressesOnly ? buffer : new TableSpace("uva", this.memory), buffer };
  }

  #ringsChanged(): void {
    if (!this.rings.anyRunning) this.link.forgetQuestions();
    const isOn = this.translation.state === "on";
    this.link.pinRings(
      isOn ? this.rings.all.filter((ring) => ring.running !== undefined) : [],
      this.features,
    );
  }
}
