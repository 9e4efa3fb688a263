/*
 * One vhost-user session, front-end side: what a VMM does, for the built-in guest, tests and conformance. Synchronous:
 * each call sends its message and waits for the answer, if one is due, while `pump` lets time pass and the back-end's
 * questions (MISS) are served, as QEMU does. Knows nothing of any device or guest.
 *
 * Every message has a typed call; `request` sends any message with any flags, and `sendBytes` any bytes at all.
 */

import { closeSync } from "node:fs";
import { EPOLLIN, Epoll } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import { receiveMessage, sendMessage } from "../linux/message-socket.js";
import { setNonBlocking, socketPair } from "../linux/unix-socket.js";
import { has, PROTOCOL_F } from "../virtio/index.js";
import { FrontEndError } from "./front-end-error.js";
import type { RingAddresses } from "./ring-state.js";
import {
  decodeMessage,
  encodeAck,
  encodeRequest,
  type Frame,
  FrameDecoder,
  type FrontendMessageName,
  IOTLB_PERM,
  IOTLB_TYPE,
  type IotlbMessage,
  type MemRegion,
  type Message,
  messageByName,
  type Payload,
  type PayloadKind,
  type PayloadOf,
  replyDue,
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

/** What happened with a request: its reply, an acknowledgement's result, or nothing was due. */
export type Answered =
  | { readonly kind: "reply"; readonly payload: Payload }
  | { readonly kind: "ack"; readonly result: bigint }
  | { readonly kind: "none" };

export interface FrontEndOptions {
  /** Ask for an acknowledgement with every message, once REPLY_ACK is negotiated. Default false, like QEMU mostly. */
  readonly needReply?: boolean;
  /** How long to wait for an answer. Default 5000. */
  readonly timeoutMs?: number;
  /**
   * Lets `timeoutMs` pass at most, or until something comes. Default: waits for both sockets. A test that runs the
   * back-end in the same thread turns its event loop here.
   */
  readonly pump?: (timeoutMs: number) => void;
  /**
   * Called for each MISS that the back-end sends; it usually answers with `iotlbUpdate`. Whether that was possible is
   * what a MISS that asks for a reply is answered with. Default: nothing is mapped.
   */
  readonly onMiss?: (miss: IotlbMessage, session: FrontEndSession) => boolean;
}

const NOTHING: Payload = { kind: "none" };
const PUMP_MS = 50;

export class FrontEndSession {
  needReply: boolean;
  /** What was acknowledged so far. */
  features = 0n;
  protocolFeatures = 0n;
  /** Every MISS that came, in order. */
  readonly misses: IotlbMessage[] = [];
  onMiss: (miss: IotlbMessage, session: FrontEndSession) => boolean;

  readonly #fd: number;
  readonly #timeoutMs: number;
  readonly #decoder = new FrameDecoder();
  readonly #pump: (timeoutMs: number) => void;
  readonly #epoll: Epoll | undefined;
  #channelFd = -1;
  #channelDecoder = new FrameDecoder();
  #isServing = false;
  #isClosed = false;

  /** Takes ownership of `fd`, a socket connected to a back-end. */
  constructor(fd: number, options: FrontEndOptions = {}) {
    setNonBlocking(fd);
    this.#fd = fd;
    this.needReply = options.needReply ?? false;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.onMiss = options.onMiss ?? (() => false);
    if (options.pump === undefined) {
      const epoll = new Epoll();
      epoll.add(fd, EPOLLIN, 0);
      this.#epoll = epoll;
      this.#pump = (timeoutMs) => void epoll.wait(timeoutMs);
    } else {
      this.#pump = options.pump;
    }
  }

  // ---- negotiation ---------------------------------------------------------------------------------------------

  getFeatures(): bigint {
    return this.#number("GET_FEATURES");
  }

  setFeatures(features: bigint): void {
    this.#tell("SET_FEATURES", { kind: "u64", value: features });
    this.features = features;
  }

  getProtocolFeatures(): bigint {
    return this.#number("GET_PROTOCOL_FEATURES");
  }

  setProtocolFeatures(protocolFeatures: bigint): void {
    this.#tell("SET_PROTOCOL_FEATURES", { kind: "u64", value: protocolFeatures });
    this.protocolFeatures = protocolFeatures;
  }

  setOwner(): void {
    this.#tell("SET_OWNER");
  }

  resetOwner(): void {
    this.#tell("RESET_OWNER");
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

  setConfig(offset: number, data: Uint8Array, flags = 0): void {
    this.#tell("SET_CONFIG", { kind: "config", offset, flags, data });
  }

  getStatus(): number {
    return Number(this.#number("GET_STATUS"));
  }

  setStatus(status: number): void {
    this.#tell("SET_STATUS", { kind: "u64", value: BigInt(status) });
  }

  resetDevice(): void {
    this.#tell("RESET_DEVICE");
  }

  // ---- memory --------------------------------------------------------------------------------------------------

  setMemTable(regions: readonly SharedRegion[]): void {
    const fds = regions.map(({ fd }) => fd);
    this.#tell("SET_MEM_TABLE", { kind: "memTable", regions: regions.map(wireRegion) }, fds);
  }

  getMaxMemSlots(): number {
    return Number(this.#number("GET_MAX_MEM_SLOTS"));
  }

  addMemReg(region: SharedRegion): void {
    this.#tell("ADD_MEM_REG", { kind: "memRegion", region: wireRegion(region) }, [region.fd]);
  }

  remMemReg(region: Omit<SharedRegion, "fd">, fds: readonly number[] = []): void {
    this.#tell("REM_MEM_REG", { kind: "memRegion", region: wireRegion(region) }, fds);
  }

  // ---- rings ---------------------------------------------------------------------------------------------------

  setVringNum(index: number, num: number): void {
    this.#tell("SET_VRING_NUM", { kind: "vringState", index, num });
  }

  setVringBase(index: number, num: number): void {
    this.#tell("SET_VRING_BASE", { kind: "vringState", index, num });
  }

  setVringAddr(index: number, { desc, avail, used }: RingAddresses, log = 0n): void {
    this.#tell("SET_VRING_ADDR", { kind: "vringAddr", index, flags: 0, desc, used, avail, log });
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
    this.#tell("SET_VRING_ENABLE", { kind: "vringState", index, num: enabled ? 1 : 0 });
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

  /** Makes the back-end channel: gives one end to the back-end, and serves the other while calls wait. */
  openBackendChannel(): void {
    const [ours, theirs] = socketPair();
    try {
      this.#tell("SET_BACKEND_REQ_FD", NOTHING, [theirs]);
    } catch (error) {
      closeSync(ours);
      throw error;
    } finally {
      closeSync(theirs);
    }
    this.closeBackendChannel();
    this.#channelFd = ours;
    this.#epoll?.add(ours, EPOLLIN, 1);
  }

  closeBackendChannel(): void {
    if (this.#channelFd < 0) return;
    this.#epoll?.remove(this.#channelFd);
    closeSync(this.#channelFd);
    this.#channelFd = -1;
    this.#channelDecoder = new FrameDecoder();
  }

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

  // ---- anything ------------------------------------------------------------------------------------------------

  /** Sends a message and waits for what is due. */
  request(
    name: FrontendMessageName,
    payload: Payload = NOTHING,
    options: { readonly fds?: readonly number[]; readonly needReply?: boolean } = {},
  ): Answered {
    const needReply =
      options.needReply ?? (this.needReply && has(this.protocolFeatures, PROTOCOL_F.REPLY_ACK));
    const bytes = encodeRequest("frontend", name, payload, { needReply });
    this.sendBytes(bytes, options.fds);
    const due = replyDue(messageByName("frontend", name), needReply, this.protocolFeatures);
    if (due === "none") return { kind: "none" };
    const answer = this.receive();
    if (answer.record.name !== name) {
      throw new FrontEndError("unexpected-reply", `${name} was answered with ${answer.record.name}`);
    }
    if (due === "reply") return { kind: "reply", payload: answer.payload };
    if (answer.payload.kind !== "u64") {
      throw new FrontEndError("unexpected-reply", `${name} was acknowledged with ${answer.payload.kind}`);
    }
    return { kind: "ack", result: answer.payload.value };
  }

  /** Sends any bytes, descriptors with the first of them; waits for room in the socket. */
  sendBytes(bytes: Uint8Array, fds: readonly number[] = []): void {
    let at = 0;
    const deadlineMs = performance.now() + this.#timeoutMs;
    while (at < bytes.length) {
      const sent = sendMessage(this.#fd, bytes.subarray(at), at === 0 ? fds : []);
      if (sent === -errno.EAGAIN) this.#wait(deadlineMs, "room in the socket");
      else if (sent < 0) throw new FrontEndError("closed", `the back-end left: ${errnoName(-sent)}`);
      else at += sent;
    }
  }

  /** Waits for the next message of the back-end on the main socket. */
  receive(): Message {
    const deadlineMs = performance.now() + this.#timeoutMs;
    for (;;) {
      const message = this.#tryReceive();
      if (message !== undefined) return message;
      this.#wait(deadlineMs, "an answer");
    }
  }

  /** Serves the questions that wait on the back-end channel, and returns how many those were. */
  serve(): number {
    if (this.#isServing || this.#channelFd < 0) return 0;
    this.#isServing = true;
    let served = 0;
    try {
      for (let message = this.#nextQuestion(); message !== undefined; message = this.#nextQuestion()) {
        this.#answerQuestion(message);
        served++;
      }
    } finally {
      this.#isServing = false;
    }
    return served;
  }

  /** Lets time pass, and serves questions, until `condition` holds. */
  waitFor(condition: () => boolean, what = "the condition"): void {
    const deadlineMs = performance.now() + this.#timeoutMs;
    while (!condition()) this.#wait(deadlineMs, what);
  }

  /** Whether the back-end has closed the connection. Reads nothing but the end. */
  get backendLeft(): boolean {
    try {
      const message = this.#tryReceive();
      if (message !== undefined)
        throw new FrontEndError("unexpected-reply", `${message.record.name} came unasked`);
      return false;
    } catch (error) {
      if (error instanceof FrontEndError && error.code === "closed") return true;
      throw error;
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.closeBackendChannel();
    this.#epoll?.close();
    closeSync(this.#fd);
  }

  #number(name: FrontendMessageName): bigint {
    return expectReply(name, this.request(name), "u64").value;
  }

  #tell(name: FrontendMessageName, payload: Payload = NOTHING, fds: readonly number[] = []): void {
    const answer = this.request(name, payload, { fds });
    if (answer.kind === "ack" && answer.result !== 0n) {
      throw new FrontEndError("refused", `the back-end refused ${name} (result ${answer.result})`);
    }
  }

  #tellVringFd(name: FrontendMessageName, index: number, fd: number | undefined): void {
    this.#tell(name, { kind: "vringFd", index, noFd: fd === undefined }, fd === undefined ? [] : [fd]);
  }

  #wait(deadlineMs: number, what: string): void {
    if (this.serve() > 0) return;
    const remainingMs = deadlineMs - performance.now();
    if (remainingMs <= 0) throw new FrontEndError("timeout", `waited ${this.#timeoutMs} ms for ${what}`);
    this.#pump(Math.min(PUMP_MS, Math.ceil(remainingMs)));
  }

  #tryReceive(): Message | undefined {
    const frame = readFrame(this.#fd, this.#decoder);
    return frame === undefined ? undefined : understood("frontend", frame);
  }

  #nextQuestion(): Message | undefined {
    if (this.#channelFd < 0) return undefined;
    try {
      const frame = readFrame(this.#channelFd, this.#channelDecoder);
      return frame === undefined ? undefined : understood("backend", frame);
    } catch (error) {
      if (!(error instanceof FrontEndError && error.code === "closed")) throw error;
      this.closeBackendChannel();
      return undefined;
    }
  }

  #answerQuestion({ payload, header, needReply }: Message): void {
    let isAnswered = false;
    if (payload.kind === "iotlb" && payload.type === IOTLB_TYPE.MISS) {
      this.misses.push(payload);
      isAnswered = this.onMiss(payload, this);
    }
    // "Front-end answers u64 only if REPLY_ACK && need_reply", after the UPDATE on the main socket.
    if (!needReply || !has(this.protocolFeatures, PROTOCOL_F.REPLY_ACK) || this.#channelFd < 0) return;
    sendMessage(this.#channelFd, encodeAck(header, isAnswered ? 0n : 1n));
  }
}

function wireRegion({ guestAddress, size, userAddress, mmapOffset }: Omit<SharedRegion, "fd">): MemRegion {
  return { guestAddress, size, userAddress, mmapOffset };
}

function expectReply<K extends PayloadKind>(name: string, answer: Answered, kind: K): PayloadOf<K> {
  if (answer.kind === "reply" && answer.payload.kind === kind) return answer.payload as PayloadOf<K>;
  const got = answer.kind === "reply" ? `a reply with ${answer.payload.kind}` : answer.kind;
  throw new FrontEndError("unexpected-reply", `${name} was answered with ${got}, ${kind} was due`);
}

/** The next whole frame, or undefined if nothing more is there now. Closes descriptors that come along. */
function readFrame(fd: number, decoder: FrameDecoder): Frame | undefined {
  for (;;) {
    const { result, bytes, descriptors } = receiveMessage(fd, decoder.bytesWanted);
    for (const descriptor of descriptors) closeSync(descriptor);
    if (result === -errno.EAGAIN) return undefined;
    if (result < 0) throw new FrontEndError("closed", `the back-end left: ${errnoName(-result)}`);
    if (result === 0) throw new FrontEndError("closed", "the back-end closed the connection");
    decoder.push(bytes);
    const next = decoder.next();
    if (next === undefined) continue;
    if (!next.ok) throw new FrontEndError("malformed", next.error.message);
    return next.value;
  }
}

function understood(channel: "frontend" | "backend", frame: Frame): Message {
  const decoded = decodeMessage(channel, frame);
  if (!decoded.ok) throw new FrontEndError("malformed", decoded.error.message);
  return decoded.value;
}
