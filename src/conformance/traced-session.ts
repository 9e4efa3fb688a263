/** A front-end's session that writes down every message, both ways, decoded. Must not know why one is sent. */
import { setTimeout as delay } from "node:timers/promises";
import { errno } from "../linux/errors.js";
import { receiveMessage } from "../linux/message-socket.js";
import type { FrontEndOptions } from "../vhost/front-end-connection.js";
import { FrontEndError } from "../vhost/front-end-error.js";
import { FrontEndSession } from "../vhost/front-end-session.js";
import {
  decodeMessage,
  describeFrame,
  describeMessage,
  encodeRequest,
  FrameDecoder,
  type FrontendMessageName,
  HEADER_BYTES,
  type Message,
  type Payload,
} from "../vhost/wire/index.js";
import { F, has, maskOf, PROTOCOL_F, VSOCK_F } from "../virtio/index.js";
import type { FeatureName, ProtocolFeatureName } from "./case.js";
import type { Evidence } from "./evidence.js";

export interface NegotiateOptions {
  /** What the driver acknowledges of the offer, beside VERSION_1. Default none. */
  readonly features?: readonly FeatureName[];
  /** What the front-end takes of the offer. */
  readonly protocolFeatures?: readonly ProtocolFeatureName[];
}

/** Those with which every case can live. */
export const USUAL_PROTOCOL_FEATURES = ["MQ", "CONFIG", "REPLY_ACK"] as const;

export class TracedSession extends FrontEndSession {
  /** The case takes it if the back-end ends this session; otherwise that fails the case. */
  mayEnd = false;
  readonly #evidence: Evidence;
  readonly #fd: number;

  constructor(fd: number, options: FrontEndOptions, evidence: Evidence) {
    super(fd, options);
    this.#fd = fd;
    this.#evidence = evidence;
  }

  override sendBytes(bytes: Uint8Array, fds: readonly number[] = []): void {
    this.#evidence.add("front-end", describeBytes(bytes, fds));
    super.sendBytes(bytes, fds);
  }

  override receive(): Message {
    try {
      const message = super.receive();
      this.#evidence.add("back-end", describeMessage(message, { deviceType: "vsock" }));
      return message;
    } catch (error) {
      this.#evidence.add("back-end", `(${error instanceof Error ? error.message : String(error)})`);
      throw error;
    }
  }

  /** From GET_FEATURES to SET_OWNER, in QEMU's order. SET_FEATURES comes later: see `acknowledge`. */
  negotiate(protocolFeatures: readonly ProtocolFeatureName[] = USUAL_PROTOCOL_FEATURES): bigint {
    const offered = this.getFeatures();
    if (has(offered, F.PROTOCOL_FEATURES)) {
      this.setProtocolFeatures(this.getProtocolFeatures() & this.wordOf(protocolFeatures));
    }
    this.setOwner();
    return offered;
  }

  /** SET_FEATURES with VERSION_1, bit 30 and these, as far as they are offered. Returns what was sent. */
  acknowledge(
    offered: bigint,
    features: readonly FeatureName[] = [],
    omits: readonly FeatureName[] = [],
  ): bigint {
    const wanted = maskOf(F.VERSION_1, F.PROTOCOL_FEATURES, ...features.map(featureBit));
    const sent = offered & wanted & ~maskOf(...omits.map(featureBit));
    this.setFeatures(sent);
    return sent;
  }

  /** A word of these protocol features. */
  wordOf(names: readonly ProtocolFeatureName[]): bigint {
    return maskOf(...names.map((name) => PROTOCOL_F[name]));
  }

  /** Sends a request and waits for nothing. */
  sendRequest(name: FrontendMessageName, payload: Payload = { kind: "none" }, needReply = false): void {
    this.sendBytes(encodeRequest("frontend", name, payload, { needReply }));
  }

  /** Requests without payload, in one piece. */
  sendRequests(...names: readonly FrontendMessageName[]): void {
    const requests = names.map((name) => encodeRequest("frontend", name, { kind: "none" }));
    this.sendBytes(Buffer.concat(requests));
  }

  /** The same message cut behind so many bytes, with pauses between the pieces. */
  async sendInPieces(name: FrontendMessageName, payload: Payload, cuts: readonly number[]): Promise<void> {
    const bytes = encodeRequest("frontend", name, payload);
    let at = 0;
    for (const end of [...cuts, bytes.length]) {
      this.sendBytes(bytes.subarray(at, end));
      await delay(20);
      at = end;
    }
  }

  /** What comes back for a message that no decoder knows: an acknowledgement, the end of the session, or nothing. */
  async rawAnswer(withinMs: number): Promise<"success" | "failure" | "end" | "nothing"> {
    const deadlineMs = performance.now() + withinMs;
    while (performance.now() < deadlineMs) {
      const { result, bytes } = receiveMessage(this.#fd, HEADER_BYTES + 8);
      if (result === -errno.EAGAIN) {
        await delay(1);
        continue;
      }
      this.#evidence.add(
        "back-end",
        result <= 0 ? "closes the connection" : `${Buffer.from(bytes).toString("hex")}`,
      );
      if (result <= 0) return "end";
      // Acknowledgements are in one piece: they are 20 bytes.
      return bytes.subarray(HEADER_BYTES).some((byte) => byte !== 0) ? "failure" : "success";
    }
    return "nothing";
  }

  /** Sends the bytes of a request that asks for an acknowledgement. Throws if it is refused. */
  requestBytes(...pieces: readonly Uint8Array[]): void {
    this.sendBytes(Buffer.concat(pieces));
    const { payload } = this.receive();
    if (payload.kind === "u64" && payload.value !== 0n)
      throw new FrontEndError("refused", `the back-end refused it (result ${payload.value})`);
  }

  negotiated(name: ProtocolFeatureName): boolean {
    return has(this.protocolFeatures, PROTOCOL_F[name]);
  }
}

export function featureBit(name: FeatureName): number {
  return name in F ? F[name as keyof typeof F] : VSOCK_F[name as keyof typeof VSOCK_F];
}

/** What bytes say that we send ourselves: they may be no message on purpose. */
function describeBytes(bytes: Uint8Array, fds: readonly number[]): string {
  const decoder = new FrameDecoder();
  decoder.push(bytes);
  const frame = decoder.next();
  const more = fds.length === 0 ? "" : ` fds=${fds.length}`;
  if (frame === undefined || !frame.ok) return `${bytes.length} bytes that are no message${more}`;
  const decoded = decodeMessage("frontend", { ...frame.value, fds });
  return decoded.ok ? describeMessage(decoded.value, { deviceType: "vsock" }) : describeFrame(frame.value);
}
