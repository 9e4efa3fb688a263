/**
 * For tests of this folder: a vhost-user back-end and a kernel that follow a script and remember what they were told.
 * Not part of the product.
 */
import { closeSync } from "node:fs";
import { errno } from "../linux/errors.js";
import { receiveMessage, sendMessage } from "../linux/message-socket.js";
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
