/** A front-end's session that writes down every message, both ways, decoded. Must not know why one is sent. */
import type { FrontEndOptions } from "../vhost/front-end-connection.js";
import { FrontEndSession } from "../vhost/front-end-session.js";
import {
  decodeMessage,
  describeFrame,
  describeMessage,
  FrameDecoder,
  type Message,
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

  constructor(fd: number, options: FrontEndOptions, evidence: Evidence) {
    super(fd, options);
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
      const wanted = maskOf(...protocolFeatures.map((name) => PROTOCOL_F[name]));
      this.setProtocolFeatures(this.getProtocolFeatures() & wanted);
    }
    this.setOwner();
    return offered;
  }

  /** SET_FEATURES with VERSION_1, bit 30 and these, as far as they are offered. Returns what was sent. */
  acknowledge(offered: bigint, features: readonly FeatureName[] = []): bigint {
    const wanted = maskOf(F.VERSION_1, F.PROTOCOL_FEATURES, ...features.map(featureBit));
    this.setFeatures(offered & wanted);
    return offered & wanted;
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
