/** For tests of inspections: frames made by hand, a millisecond apart, and recorded ones. */
import {
  type BackendMessageName,
  encodeAck,
  encodeReply,
  encodeRequest,
  type FrontendMessageName,
  messageByName,
  type Payload,
} from "../vhost/wire/index.js";
import type { RecordedMessage } from "../vhost/wire/qemu-session.fixture.js";
import type { FrameChannel, FrameDirection, SessionFrame } from "./frame.js";

export const START_NS = 1_700_000_000_000_000_000n;
export const MS = 1_000_000n;

/** Frames with the clock of a session, each `MS` after the one before unless time is let pass. */
export class FrameMaker {
  #nowNs = START_NS;

  get nowNs(): bigint {
    return this.#nowNs;
  }

  wait(ns: bigint): void {
    this.#nowNs += ns;
  }

  request(
    name: FrontendMessageName,
    payload?: Payload,
    options: { readonly needReply?: boolean; readonly fds?: number } = {},
  ): SessionFrame {
    return this.raw("main", "to-backend", encodeRequest("frontend", name, payload, options), options.fds);
  }

  reply(name: FrontendMessageName, payload: Payload, fds = 0): SessionFrame {
    const { id } = messageByName("frontend", name);
    return this.raw("main", "to-frontend", encodeReply({ request: id, flags: 0, size: 0 }, payload), fds);
  }

  ack(name: FrontendMessageName, result = 0n): SessionFrame {
    const { id } = messageByName("frontend", name);
    return this.raw("main", "to-frontend", encodeAck({ request: id, flags: 0, size: 0 }, result));
  }

  ask(
    name: BackendMessageName,
    payload?: Payload,
    options: { readonly needReply?: boolean } = {},
  ): SessionFrame {
    return this.raw("backend", "to-frontend", encodeRequest("backend", name, payload, options));
  }

  answer(name: BackendMessageName, result = 0n): SessionFrame {
    const { id } = messageByName("backend", name);
    return this.raw("backend", "to-backend", encodeAck({ request: id, flags: 0, size: 0 }, result));
  }

  raw(
    channel: FrameChannel,
    direction: FrameDirection,
    bytes: Uint8Array,
    descriptorCount = 0,
  ): SessionFrame {
    this.#nowNs += MS;
    return { timeNs: this.#nowNs, channel, direction, bytes, descriptorCount };
  }

  /** A message as it was recorded: which way it went follows from its REPLY flag. */
  recorded({ channel, hex, fds }: RecordedMessage): SessionFrame {
    const bytes = Buffer.from(hex, "hex");
    const isReply = (bytes[4] & 4) !== 0;
    const toBackend = (channel === "frontend") !== isReply;
    return this.raw(
      channel === "frontend" ? "main" : "backend",
      toBackend ? "to-backend" : "to-frontend",
      bytes,
      fds,
    );
  }
}
