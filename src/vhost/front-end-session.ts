/**
 * One vhost-user session, front-end side: what a VMM does, for the built-in guest, tests and conformance. Synchronous:
 * each call sends its message and waits for the answer, if one is due, while `pump` lets time pass and the back-end's
 * questions (MISS) are served, as QEMU does. Knows nothing of any device or guest.
 *
 * Every message has a typed call; `request` sends any message with any flags, and `sendBytes` any bytes at all.
 */

import { type Answered, FrontEndConnection } from "./front-end-connection.js";
import { FrontEndError } from "./front-end-error.js";
import type { RingAddresses } from "./ring-state.js";
import {
  CONFIG_FLAG,
  type FrontendMessageName,
  IOTLB_PERM,
  IOTLB_TYPE,
  type IotlbMessage,
  type MemRegion,
  type PayloadKind,
  type PayloadOf,
  VRING_FLAG_LOG,
} from "./wire/index.js";

/** A region of guest memory as a front-end shares it. */
export interface SharedRegion {
  readonly guestAddress: bigint;
  readonly userAddress: bigint;
  readonly size: bigint;
  /** Where it starts in the file behind `fd`. */
  readonly mmapOffset: bigint;
  readonly fd: number;
}

/** How one ring is set up; descriptors that are undefined are sent with the "no descriptor" flag. */
export interface RingSetup {
  readonly index: number;
  readonly size: number;
  readonly base?: number;
  readonly addresses: RingAddresses;
  readonly kickFd?: number | undefined;
  readonly callFd?: number | undefined;
  readonly errorFd?: number | undefined;
}

export class FrontEndSession extends FrontEndConnection {
  // ---- negotiation ---------------------------------------------------------------------------------------------

  getFeatures(): bigint {
    return this.#number("GET_FEATURES");
  }

  setFeatures(features: bigint): void {
    this.tell("SET_FEATURES", { kind: "u64", value: features });
    this.features = features;
  }

  getProtocolFeatures(): bigint {
    return this.#number("GET_PROTOCOL_FEATURES");
  }

  setProtocolFeatures(protocolFeatures: bigint): void {
    this.tell("SET_PROTOCOL_FEATURES", { kind: "u64", value: protocolFeatures });
    this.protocolFeatures = protocolFeatures;
  }

  setOwner(): void {
    this.tell("SET_OWNER");
  }

  resetOwner(): void {
    this.tell("RESET_OWNER");
  }

  getQueueNum(): number {
    return Number(this.#number("GET_QUEUE_NUM"));
  }

  // ---- device --------------------------------------------------------------------------------------------------

  /** The bytes, or undefined if the back-end says that there are none such. */
  getConfig(offset: number, size: number, flags = 0): Uint8Array | undefined {
    const answer = this.request("GET_CONFIG", { kind: "config", offset, flags, data: new Uint8Array(size) });
    if (answer.kind === "reply" && answer.payload.kind === "none") return undefined;
    return expectReply("GET_CONFIG", answer, "config").data;
  }

  setConfig(offset: number, data: Uint8Array, flags: number = CONFIG_FLAG.writable): void {
    this.tell("SET_CONFIG", { kind: "config", offset, flags, data });
  }

  getStatus(): number {
    return Number(this.#number("GET_STATUS"));
  }

  setStatus(status: number): void {
    this.tell("SET_STATUS", { kind: "u64", value: BigInt(status) });
  }

  resetDevice(): void {
    this.tell("RESET_DEVICE");
  }

  // ---- memory --------------------------------------------------------------------------------------------------

  setMemTable(regions: readonly SharedRegion[]): void {
    const fds = regions.map(({ fd }) => fd);
    this.tell("SET_MEM_TABLE", { kind: "memTable", regions: regions.map(wireRegion) }, fds);
  }

  getMaxMemSlots(): number {
    return Number(this.#number("GET_MAX_MEM_SLOTS"));
  }

  addMemReg(region: SharedRegion): void {
    this.tell("ADD_MEM_REG", { kind: "memRegion", region: wireRegion(region) }, [region.fd]);
  }

  remMemReg(region: Omit<SharedRegion, "fd">, fds: readonly number[] = []): void {
    this.tell("REM_MEM_REG", { kind: "memRegion", region: wireRegion(region) }, fds);
  }

  /** Shares the dirty log: `size` bytes from `offset` of the file behind `fd`. True if the back-end took it. */
  setLogBase(fd: number, size: bigint, offset = 0n): boolean {
    const answer = this.request("SET_LOG_BASE", { kind: "log", size, offset }, { fds: [fd] });
    return answer.kind === "none" || resultOf(answer) === 0n;
  }

  setLogFd(fd: number): void {
    this.tell("SET_LOG_FD", { kind: "none" }, [fd]);
  }

  /** The back-end's inflight file, which the caller closes; undefined if it has none. */
  getInflightFd(
    queueCount: number,
    queueSize: number,
  ): { fd: number; size: bigint; offset: bigint } | undefined {
    const request = { mmapSize: 0n, mmapOffset: 0n, queueCount, queueSize, padded: true } as const;
    const { answer, fds } = this.requestWithFds("GET_INFLIGHT_FD", { kind: "inflight", ...request });
    const { mmapSize, mmapOffset } = expectReply("GET_INFLIGHT_FD", answer, "inflight");
    const [fd] = fds;
    return mmapSize === 0n || fd === undefined ? undefined : { fd, size: mmapSize, offset: mmapOffset };
  }

  setInflightFd(
    file: { readonly fd: number; readonly size: bigint; readonly offset: bigint },
    queueCount: number,
    queueSize: number,
  ): void {
    const { fd, size, offset } = file;
    const payload = { mmapSize: size, mmapOffset: offset, queueCount, queueSize, padded: true } as const;
    this.tell("SET_INFLIGHT_FD", { kind: "inflight", ...payload }, [fd]);
  }

  /** Has the back-end write its state to `fd`, or read it there, to the end of it. False if it does not. */
  setDeviceStateFd(direction: "save" | "load", fd: number): boolean {
    const payload = { kind: "deviceState", direction: direction === "save" ? 0 : 1, phase: 0 } as const;
    const answer = this.request("SET_DEVICE_STATE_FD", payload, { fds: [fd] });
    return (resultOf(answer) & 0xffn) === 0n;
  }

  /** Whether the state has been moved as a whole. */
  checkDeviceState(): boolean {
    return resultOf(this.request("CHECK_DEVICE_STATE")) === 0n;
  }

  // ---- rings ---------------------------------------------------------------------------------------------------

  setVringNum(index: number, num: number): void {
    this.tell("SET_VRING_NUM", { kind: "vringState", index, num });
  }

  setVringBase(index: number, num: number): void {
    this.tell("SET_VRING_BASE", { kind: "vringState", index, num });
  }

  /** `log`: where writes to the used ring are logged; left out, they are not. */
  setVringAddr(index: number, { desc, avail, used }: RingAddresses, log?: bigint): void {
    const flags = log === undefined ? 0 : VRING_FLAG_LOG;
    this.tell("SET_VRING_ADDR", { kind: "vringAddr", index, flags, desc, used, avail, log: log ?? 0n });
  }

  setVringKick(index: number, fd?: number): void {
    this.#tellVringFd("SET_VRING_KICK", index, fd);
  }

  setVringCall(index: number, fd?: number): void {
    this.#tellVringFd("SET_VRING_CALL", index, fd);
  }

  setVringErr(index: number, fd?: number): void {
    this.#tellVringFd("SET_VRING_ERR", index, fd);
  }

  setVringEnable(index: number, enabled: boolean): void {
    this.tell("SET_VRING_ENABLE", { kind: "vringState", index, num: enabled ? 1 : 0 });
  }

  /** Stops the ring and returns the position at which it can be taken up again. */
  getVringBase(index: number): number {
    const answer = this.request("GET_VRING_BASE", { kind: "vringState", index, num: 0 });
    return expectReply("GET_VRING_BASE", answer, "vringState").num;
  }

  /** Sets one ring up in QEMU's order, without enabling it. */
  setUpRing(ring: RingSetup): void {
    this.setVringNum(ring.index, ring.size);
    this.setVringBase(ring.index, ring.base ?? 0);
    this.setVringAddr(ring.index, ring.addresses);
    if (ring.errorFd !== undefined) this.setVringErr(ring.index, ring.errorFd);
    this.setVringCall(ring.index, ring.callFd);
    this.setVringKick(ring.index, ring.kickFd);
  }

  // ---- IOTLB ---------------------------------------------------------------------------------------------------

  /** Maps a range. Returns the back-end's result: 0n if it took it. */
  iotlbUpdate(iova: bigint, size: bigint, userAddress: bigint, perm: number = IOTLB_PERM.readWrite): bigint {
    return this.iotlb({ type: IOTLB_TYPE.UPDATE, iova, size, userAddress, perm });
  }

  /** Unmaps a range. Once this returned, the back-end does not touch it any more. */
  iotlbInvalidate(iova: bigint, size: bigint): bigint {
    return this.iotlb({ type: IOTLB_TYPE.INVALIDATE, iova, size, userAddress: 0n, perm: 0 });
  }

  /** Sends any IOTLB message, with NEED_REPLY as QEMU does, and returns the result. */
  iotlb(message: IotlbMessage): bigint {
    const answer = this.request("IOTLB_MSG", { kind: "iotlb", ...message }, { needReply: true });
    return expectReply("IOTLB_MSG", answer, "u64").value;
  }

  #number(name: FrontendMessageName): bigint {
    return expectReply(name, this.request(name), "u64").value;
  }

  #tellVringFd(name: FrontendMessageName, index: number, fd: number | undefined): void {
    this.tell(name, { kind: "vringFd", index, noFd: fd === undefined }, fd === undefined ? [] : [fd]);
  }
}

function wireRegion({ guestAddress, size, userAddress, mmapOffset }: Omit<SharedRegion, "fd">): MemRegion {
  return { guestAddress, size, userAddress, mmapOffset };
}

function resultOf(answer: Answered): bigint {
  if (answer.kind === "ack") return answer.result;
  return answer.kind === "reply" && answer.payload.kind === "u64" ? answer.payload.value : 1n;
}

function expectReply<K extends PayloadKind>(name: string, answer: Answered, kind: K): PayloadOf<K> {
  if (answer.kind === "reply" && answer.payload.kind === kind) return answer.payload as PayloadOf<K>;
  const got = answer.kind === "reply" ? `a reply with ${answer.payload.kind}` : answer.kind;
  throw new FrontEndError("unexpected-reply", `${name} was answered with ${got}, ${kind} was due`);
}
