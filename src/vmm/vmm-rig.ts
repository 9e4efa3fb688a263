/**
 * For tests of this folder: a guest with queues that nobody runs, a back-end and a kernel that follow a script, and
 * players of any profile between them, all in one thread. Not part of the product.
 */
import { closeSync } from "node:fs";
import { createPlatform, type Platform, type PlatformOptions } from "../guest/platform.js";
import { errno } from "../linux/errors.js";
import { EventLoop } from "../linux/event-loop.js";
import { createEventfd } from "../linux/eventfd.js";
import { receiveMessage, sendMessage } from "../linux/message-socket.js";
import { socketPair } from "../linux/unix-socket.js";
import { builtinVmm } from "../profiles/builtin.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import type { KernelErrno, KernelRequest, KernelResult, KernelVhost } from "../vhost/kernel/requests.js";
import {
  decodeMessage,
  encodeReply,
  encodeRequest,
  FrameDecoder,
  type FrontendMessageName,
  IOTLB_TYPE,
  type IotlbMessage,
  type Message,
  type Payload,
  replyDue,
} from "../vhost/wire/index.js";
import { F, maskOf, PROTOCOL_F } from "../virtio/index.js";
import { FrontEnd } from "./front-end.js";
import { KernelFrontEnd } from "./kernel-front-end.js";
import type { MachineOptions } from "./negotiation.js";
import type { GuestQueue, VmmEvent } from "./player.js";

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

/** Answers what has to be answered, and remembers everything. */
export class ScriptedBackend {
  /** Each message in its order: the name, with NEED_REPLY and the queue where they apply. */
  readonly heard: string[] = [];
  readonly messages: Message[] = [];
  /** The answers to questions on the channel. */
  readonly answers: bigint[] = [];
  /** Messages that are answered with a failure. */
  readonly refuses = new Set<FrontendMessageName>();
  /** What is done when a message comes, before its answer. */
  readonly upon = new Map<FrontendMessageName, () => void>();
  channelFd = -1;
  isClosed = false;
  #protocolFeatures = 0n;
  #hasLeft = false;
  readonly #decoder = new FrameDecoder();
  readonly #channelDecoder = new FrameDecoder();

  constructor(
    readonly fd: number,
    private readonly offer: { readonly features: bigint; readonly protocolFeatures: bigint },
  ) {}

  /** Handles what waits, `most` messages of it. */
  turn(most = Number.POSITIVE_INFINITY): void {
    if (this.#hasLeft) return;
    for (let handled = 0; handled < most; ) {
      const { result, bytes, descriptors } = receiveMessage(this.fd, this.#decoder.bytesWanted);
      if (result === -errno.EAGAIN) break;
      if (result <= 0) {
        this.isClosed = true;
        break;
      }
      this.#decoder.push(bytes, descriptors);
      const frame = this.#decoder.next();
      if (frame?.ok !== true) continue;
      const decoded = decodeMessage("frontend", frame.value);
      if (!decoded.ok) throw decoded.error;
      this.#handle(decoded.value);
      handled++;
    }
    this.#readChannel();
  }

  #handle(message: Message): void {
    const { record, payload, needReply, fds, header } = message;
    const name = record.name as FrontendMessageName;
    const queue = "index" in payload ? ` q${payload.index}` : "";
    this.heard.push(`${name}${needReply ? " NEED_REPLY" : ""}${queue}`);
    this.messages.push(message);
    if (name === "SET_PROTOCOL_FEATURES" && payload.kind === "u64") this.#protocolFeatures = payload.value;
    if (name === "SET_BACKEND_REQ_FD") this.channelFd = fds[0];
    else for (const fd of fds) closeSync(fd);
    this.upon.get(name)?.();
    const due = replyDue(record, needReply, this.#protocolFeatures);
    if (due === "none") return;
    sendMessage(
      this.fd,
      encodeReply(header, due === "ack" ? this.#result(name) : this.#reply(name, payload)),
    );
  }

  #result(name: FrontendMessageName): Payload {
    return { kind: "u64", value: this.refuses.has(name) ? 1n : 0n };
  }

  #reply(name: FrontendMessageName, payload: Payload): Payload {
    switch (name) {
      case "GET_FEATURES":
        return { kind: "u64", value: this.offer.features };
      case "GET_PROTOCOL_FEATURES":
        return { kind: "u64", value: this.offer.protocolFeatures };
      case "GET_QUEUE_NUM":
        return { kind: "u64", value: 3n };
      case "GET_MAX_MEM_SLOTS":
        return { kind: "u64", value: 32n };
      case "GET_STATUS":
        return { kind: "u64", value: 0n };
      case "GET_CONFIG":
        if (payload.kind !== "config") throw new Error("GET_CONFIG carries something else");
        return { ...payload, data: new Uint8Array([42, 0, 0, 0, 0, 0, 0, 0]) };
      case "GET_VRING_BASE":
        return { kind: "vringState", index: "index" in payload ? payload.index : 0, num: 7 };
      default:
        return this.#result(name);
    }
  }

  /** Asks for a mapping. */
  miss(iova: bigint, perm: number, needReply = true): void {
    const message = { kind: "iotlb", iova, size: 0n, userAddress: 0n, perm, type: IOTLB_TYPE.MISS } as const;
    sendMessage(this.channelFd, encodeRequest("backend", "IOTLB_MSG", message, { needReply }));
  }

  #readChannel(): void {
    while (this.channelFd >= 0) {
      const { result, bytes } = receiveMessage(this.channelFd, this.#channelDecoder.bytesWanted);
      if (result <= 0) return;
      this.#channelDecoder.push(bytes);
      const frame = this.#channelDecoder.next();
      if (frame?.ok !== true) continue;
      const decoded = decodeMessage("backend", frame.value);
      if (decoded.ok && decoded.value.payload.kind === "u64") this.answers.push(decoded.value.payload.value);
    }
  }

  /** The payload of the only message of that name, or the last. */
  payload(name: FrontendMessageName): Payload | undefined {
    return this.messages.findLast(({ record }) => record.name === name)?.payload;
  }

  iotlbMessages(type: number): IotlbMessage[] {
    return this.messages.flatMap(({ payload }) =>
      payload.kind === "iotlb" && payload.type === type ? [payload] : [],
    );
  }

  /** Closes the session's socket. */
  leave(): void {
    if (!this.#hasLeft) closeSync(this.fd);
    this.#hasLeft = true;
  }

  close(): void {
    if (this.channelFd >= 0) closeSync(this.channelFd);
    this.leave();
  }
}

/** Takes every request and remembers it. */
export class ScriptedKernel implements KernelVhost {
  readonly heard: string[] = [];
  readonly requests: KernelRequest[] = [];
  readonly written: IotlbMessage[] = [];
  readonly misses: IotlbMessage[] = [];
  readonly fails = new Map<KernelRequest["name"], KernelErrno>();
  isClosed = false;

  constructor(readonly features: bigint) {}

  ioctl(request: KernelRequest): KernelResult {
    const index = "index" in request ? ` q${request.index}` : "";
    this.heard.push(`${request.name.replace(/^VHOST_(VSOCK_)?/, "")}${index}`);
    this.requests.push(request);
    const failure = this.fails.get(request.name);
    if (failure !== undefined) return { ok: false, errno: failure };
    return { ok: true, value: request.name === "VHOST_GET_FEATURES" ? this.features : 2n };
  }

  write(message: IotlbMessage): KernelResult {
    this.heard.push(message.type === IOTLB_TYPE.UPDATE ? "UPDATE" : "INVALIDATE");
    this.written.push(message);
    return { ok: true, value: 0n };
  }

  read(): IotlbMessage | undefined {
    return this.misses.shift();
  }

  close(): void {
    this.isClosed = true;
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

  /** The messages from SET_FEATURES, or what was heard after `from` messages, on. */
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

/** Runs `body` and closes what it ran with. */
export function using<T extends { close(): void }>(rig: T, body: (rig: T) => void): void {
  try {
    body(rig);
  } finally {
    rig.close();
  }
}
