/** A front-end's session that tells of each message, on one line, with what came of it. Must not know why it is sent. */
import type { Answered, FrontEndOptions } from "../vhost/front-end-connection.js";
import { FrontEndSession } from "../vhost/front-end-session.js";
import {
  describeMessage,
  describeReply,
  type FrontendMessageName,
  messageByName,
  type Payload,
} from "../vhost/wire/index.js";
import { has, PROTOCOL_F } from "../virtio/index.js";

export interface MessageObserver {
  /** A message is about to be sent. */
  begins(): void;
  /** @param result undefined where the message has no answer */
  ended(text: string, result: string | undefined): void;
}

export class ObservedSession extends FrontEndSession {
  readonly #observer: MessageObserver;

  constructor(fd: number, options: FrontEndOptions, observer: MessageObserver) {
    super(fd, options);
    this.#observer = observer;
  }

  override request(
    name: FrontendMessageName,
    payload: Payload = { kind: "none" },
    options: { readonly fds?: readonly number[]; readonly needReply?: boolean } = {},
  ): Answered {
    const text = this.#describe(name, payload, options);
    this.#observer.begins();
    try {
      const answer = super.request(name, payload, options);
      this.#observer.ended(text, resultOf(name, answer));
      return answer;
    } catch (error) {
      this.#observer.ended(text, error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  #describe(
    name: FrontendMessageName,
    payload: Payload,
    options: { readonly fds?: readonly number[]; readonly needReply?: boolean },
  ): string {
    const record = messageByName("frontend", name);
    const needReply =
      options.needReply ?? (this.needReply && has(this.protocolFeatures, PROTOCOL_F.REPLY_ACK));
    const header = { request: record.id, flags: 0, size: 0 };
    const fds = options.fds ?? [];
    return describeMessage(
      { channel: "frontend", record, header, reply: false, needReply, payload, fds },
      { deviceType: "vsock" },
    );
  }
}

function resultOf(name: FrontendMessageName, answer: Answered): string | undefined {
  switch (answer.kind) {
    case "none":
      return undefined;
    case "ack":
      return answer.result === 0n ? "ok" : `failed (${answer.result})`;
    case "reply":
      return describeReply(messageByName("frontend", name), answer.payload, { deviceType: "vsock" });
  }
}
