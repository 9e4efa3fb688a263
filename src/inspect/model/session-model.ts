/**
 * The state of a session as its messages tell it: what was offered and acknowledged, memory, rings, mappings. It is
 * changed by each message after the lints have looked at it, and judges nothing itself. Must not know frames or
 * sources.
 */

import type { MemRegion, NegotiatedWords, Payload, PayloadOf } from "../../vhost/wire/index.js";
import { type DeviceType, F, has, PROTOCOL_F, viewOf } from "../../virtio/index.js";
import { type AddressClass, classOf } from "../address-class.js";
import type { Transport } from "../frame.js";
import type { SessionMessage } from "../message.js";
import { IotlbModel } from "./iotlb-model.js";
import { RingModel } from "./ring-model.js";

/** Rings that are kept apart; the wire has room for 256, and a message that names more is no message. */
const MOST_RINGS = 1024;
/** Regions that are kept: twice the slots of the back-ends that take the most (509). */
const MOST_REGIONS = 1024;

export class SessionModel {
  /** Messages before the one that is looked at. */
  messages = 0;
  /** A part of the session was not seen, so that what is missing may have been there. */
  hasGap = false;
  /** What was said of a stream that broke. */
  broken: string | undefined;
  /** Requests that took effect and whose arguments were not shown, by name (system calls only). */
  readonly unseen = new Set<string>();
  /** The first message that was seen can have been the first that there was. */
  isFromStart = true;
  /** What GET_FEATURES answered last; undefined until then. */
  offered: bigint | undefined;
  /** Every bit that was offered once. */
  everOffered = 0n;
  /** What SET_FEATURES said last. */
  acknowledged: bigint | undefined;
  acknowledgements = 0;
  /** Every bit that was acknowledged once. */
  everAcknowledged = 0n;
  protocolOffered: bigint | undefined;
  protocolAcknowledged: bigint | undefined;
  hasOwner = false;
  channel: "none" | "given" = "none";
  queueCount: bigint | undefined;
  memorySlots: bigint | undefined;
  status: bigint | undefined;
  /** What the configuration space of a vsock device said last. */
  guestCid: bigint | undefined;
  logBaseGiven = false;
  regions: readonly MemRegion[] = [];
  /** SET_MEM_TABLE or ADD_MEM_REG came. */
  memoryGiven = false;
  readonly rings = new Map<number, RingModel>();
  readonly iotlb = new IotlbModel();
  /** How often bit 33 changed in SET_FEATURES, the first time from nothing included. */
  translationSwitches = 0;
  /** When the rings began to run that run now; undefined while none does. */
  runningSinceNs: bigint | undefined;
  /** IOTLB messages of the front-end since then or since bit 33 was acknowledged, whichever is earlier. */
  iotlbSinceAcknowledged = 0;

  /** @param deviceType as far as somebody knows it; no message says it */
  constructor(
    readonly transport: Transport,
    readonly deviceType?: DeviceType,
  ) {}

  get words(): NegotiatedWords {
    return {
      offeredFeatures: this.offered ?? 0n,
      features: this.acknowledged ?? 0n,
      protocolFeatures: this.protocolAcknowledged ?? 0n,
    };
  }

  isAcknowledged(bit: number): boolean {
    return has(this.acknowledged ?? 0n, bit);
  }

  hasProtocol(bit: number): boolean {
    return has(this.protocolAcknowledged ?? 0n, bit);
  }

  /** They were acknowledged, and the word was not shown. */
  get hasUnseenFeatures(): boolean {
    return this.acknowledged === undefined && this.acknowledgements > 0;
  }

  get isPacked(): boolean {
    return this.isAcknowledged(F.RING_PACKED);
  }

  /** What the addresses of SET_VRING_ADDR are by what was negotiated (vhost-user, Ring address). */
  get ringSpace(): "iova" | "guest-physical" | "user" {
    // Of features that were not seen nothing follows, and I/O virtual addresses are those of which nothing is asked.
    if (this.hasUnseenFeatures) return "iova";
    if (this.isAcknowledged(F.ACCESS_PLATFORM)) return "iova";
    return this.hasProtocol(PROTOCOL_F.GPA_ADDRESSES) ? "guest-physical" : "user";
  }

  classOf(address: bigint): AddressClass {
    return classOf(address, this.regions);
  }

  /** Started, and enabled by message or by the absence of VHOST_USER_F_PROTOCOL_FEATURES. */
  isRunning(ring: RingModel): boolean {
    // The kernel's rings run by VHOST_VSOCK_SET_RUNNING and its like, whatever bit 30 says.
    if (this.transport === "kernel-vhost") return ring.addresses !== undefined && ring.isEnabled === true;
    return ring.isStarted && (ring.isEnabled ?? !this.isAcknowledged(F.PROTOCOL_FEATURES));
  }

  get runningRings(): readonly RingModel[] {
    return [...this.rings.values()].filter((ring) => this.isRunning(ring));
  }

  ring(index: number): RingModel {
    const known = this.rings.get(index);
    if (known !== undefined) return known;
    const ring = new RingModel(index);
    if (this.rings.size < MOST_RINGS) this.rings.set(index, ring);
    return ring;
  }

  /** SET_OWNER of another device that the front-end has put behind the same connection. To be asked before `apply`. */
  isOwnerAgain({ name, isReply }: SessionMessage): boolean {
    return name === "SET_OWNER" && !isReply && this.hasOwner;
  }

  /** Called with the first message before anything judges it. Every front-end begins with one of these two. */
  begin({ name, isReply }: SessionMessage): void {
    // Whether the opening of a device was seen, its source says by a gap.
    if (this.transport === "kernel-vhost") return;
    this.isFromStart = !isReply && (name === "GET_FEATURES" || name === "SET_OWNER");
  }

  /** @param request what a reply answers, if that is known */
  apply(message: SessionMessage, request: SessionMessage | undefined): void {
    const { payload, systemCall } = message;
    this.messages++;
    if (systemCall !== undefined && message.channel === "main" && !this.#takeEffect(message, request)) return;
    if (payload === undefined) return;
    if (message.channel === "backend") this.#applyOnChannel(message, payload);
    else if (message.isReply) this.#applyReply(message.name, payload, request);
    else this.#applyRequest(message, payload);
    this.#noteRunning(message.timeNs);
  }

  /** A system call has its effect when it succeeds: a failed SET_RUNNING runs nothing. Returns whether a value came back. */
  #takeEffect(
    { name, isReply, payload, systemCall, timeNs }: SessionMessage,
    request: SessionMessage | undefined,
  ): boolean {
    if (!isReply || request === undefined || systemCall?.result?.errno !== undefined) return false;
    if (request.payload !== undefined) this.#applyRequest({ ...request, timeNs }, request.payload);
    else this.#applyUnseen(request.name);
    if (payload === undefined) this.unseen.add(name);
    this.#noteRunning(timeNs);
    return true;
  }

  /** What it set is not known any more. */
  #applyUnseen(name: string): void {
    this.unseen.add(name);
    if (name === "SET_FEATURES") {
      this.acknowledged = undefined;
      this.acknowledgements++;
    } else if (name === "SET_MEM_TABLE") {
      this.regions = [];
      this.memoryGiven = false;
    }
  }

  #applyOnChannel({ name, isReply, timeNs }: SessionMessage, payload: Payload): void {
    if (isReply) return;
    if (payload.kind === "iotlb") this.iotlb.take(payload, timeNs);
    if (payload.kind === "vringState") {
      if (name === "BACKEND_VRING_CALL") this.ring(payload.index).inbandCalls++;
      if (name === "BACKEND_VRING_ERR") this.ring(payload.index).inbandErrors++;
    }
  }

  #applyReply(name: string, payload: Payload, request: SessionMessage | undefined): void {
    if (payload.kind === "u64") {
      const { value } = payload;
      if (name === "GET_FEATURES") {
        this.offered = value;
        this.everOffered |= value;
      } else if (name === "GET_PROTOCOL_FEATURES") this.protocolOffered = value;
      else if (name === "GET_QUEUE_NUM") this.queueCount = value;
      else if (name === "GET_MAX_MEM_SLOTS") this.memorySlots = value;
      else if (name === "GET_STATUS") this.status = value;
    }
    if (name === "GET_CONFIG" && payload.kind === "config" && this.deviceType === "vsock") {
      const { offset, data } = payload;
      if (offset === 0 && data.byteLength >= 8) this.guestCid = viewOf(data).getBigUint64(0, true);
    }
    const asked = request?.payload;
    if (name === "GET_VRING_BASE" && payload.kind === "vringState" && asked?.kind === "vringState")
      this.ring(asked.index).stoppedAt = payload.num;
  }

  #applyRequest(message: SessionMessage, payload: Payload): void {
    switch (payload.kind) {
      case "u64":
        this.#applyWord(message.name, payload.value);
        return;
      case "memTable":
        this.regions = payload.regions;
        this.memoryGiven = true;
        return;
      case "memRegion":
        this.#applyRegion(message.name, payload.region);
        return;
      case "iotlb":
        if (this.isAcknowledged(F.ACCESS_PLATFORM)) this.iotlbSinceAcknowledged++;
        this.iotlb.take(payload, message.timeNs);
        return;
      case "vringState":
        this.#applyRing(message.name, payload);
        return;
      case "vringAddr": {
        const ring = this.ring(payload.index);
        const { desc, avail, used, log, flags } = payload;
        ring.addresses = { desc, avail, used, log, logged: (flags & 1) !== 0 };
        ring.addressesGivenAt = this.translationSwitches;
        return;
      }
      case "vringFd":
        this.#applyBell(message, payload);
        return;
      default:
        this.#applyPlain(message.name);
        return;
    }
  }

  #applyPlain(name: string): void {
    if (name === "SET_OWNER") this.#takeOwner();
    else if (name === "VHOST_SCSI_SET_ENDPOINT" || name === "VHOST_SCSI_CLEAR_ENDPOINT") {
      for (const ring of this.rings.values()) ring.setRunning(name === "VHOST_SCSI_SET_ENDPOINT");
    } else if (name === "SET_BACKEND_REQ_FD") this.channel = "given";
    else if (name === "SET_LOG_BASE") this.logBaseGiven = true;
    else if (name === "RESET_DEVICE") {
      for (const ring of this.rings.values()) ring.reset();
      this.iotlb.forgetPending();
    } else if (name === "RESET_OWNER") {
      for (const ring of this.rings.values()) ring.isEnabled = false;
    }
  }

  #takeOwner(): void {
    if (this.hasOwner) this.#startOver();
    this.hasOwner = true;
  }

  /** What a session starts without: the new owner sends it anew. Its protocol features and its channel came before. */
  #startOver(): void {
    this.acknowledged = undefined;
    this.acknowledgements = 0;
    this.status = undefined;
    this.logBaseGiven = false;
    this.regions = [];
    this.memoryGiven = false;
    this.iotlb.clear();
    for (const ring of this.rings.values()) ring.startOver();
  }

  #applyWord(name: string, value: bigint): void {
    switch (name) {
      case "SET_FEATURES":
        if (has(value, F.ACCESS_PLATFORM) !== this.isAcknowledged(F.ACCESS_PLATFORM)) {
          this.translationSwitches++;
          this.iotlbSinceAcknowledged = 0;
        }
        this.acknowledged = value;
        this.everAcknowledged |= value;
        this.acknowledgements++;
        return;
      case "SET_PROTOCOL_FEATURES":
        this.protocolAcknowledged = value;
        return;
      case "SET_STATUS":
        this.status = value;
        return;
      case "SET_LOG_BASE":
        this.logBaseGiven = true;
        return;
      case "VHOST_VSOCK_SET_RUNNING":
        for (const ring of this.rings.values()) ring.setRunning(value !== 0n);
        if (value === 0n) this.iotlb.forgetPending();
    }
  }

  #applyRegion(name: string, region: MemRegion): void {
    if (name === "ADD_MEM_REG" && this.regions.length < MOST_REGIONS) {
      this.regions = [...this.regions, region];
      this.memoryGiven = true;
    } else if (name === "REM_MEM_REG")
      this.regions = this.regions.filter((each) => !isSameRegion(each, region));
  }

  #applyRing(name: string, { index, num }: PayloadOf<"vringState">): void {
    const ring = this.ring(index);
    switch (name) {
      case "SET_VRING_NUM":
        ring.size = num;
        return;
      case "SET_VRING_BASE":
        ring.base = num;
        return;
      case "GET_VRING_BASE":
        ring.stop();
        this.iotlb.forgetPending();
        return;
      case "SET_VRING_ENABLE":
        ring.isEnabled = num !== 0;
        // A front-end that stops a device answers no MISS any more, and nobody waits for one.
        if (num === 0) this.iotlb.forgetPending();
        return;
      case "VRING_KICK":
        ring.inbandKicks++;
    }
  }

  #applyBell({ name, timeNs }: SessionMessage, { index, noFd }: PayloadOf<"vringFd">): void {
    const ring = this.ring(index);
    const bell = noFd ? "polled" : "descriptor";
    if (name === "VHOST_NET_SET_BACKEND") ring.setRunning(!noFd);
    else if (name === "SET_VRING_CALL") ring.call = bell;
    else if (name === "SET_VRING_ERR") ring.error = bell;
    else if (name === "SET_VRING_KICK") {
      ring.kick = bell;
      if (!ring.isStarted) {
        ring.isStarted = true;
        if (this.transport === "vhost-user") ring.starts++;
        ring.startedAtNs = timeNs;
      }
    }
  }

  #noteRunning(timeNs: bigint): void {
    const isRunning = this.runningRings.length > 0;
    if (!isRunning) this.runningSinceNs = undefined;
    else this.runningSinceNs ??= timeNs;
  }
}

/** What REM_MEM_REG goes by: "guest address, user address and size" (vhost-user, VHOST_USER_REM_MEM_REG). */
export function isSameRegion(one: MemRegion, other: MemRegion): boolean {
  return (
    one.guestAddress === other.guestAddress &&
    one.size === other.size &&
    one.userAddress === other.userAddress
  );
}
