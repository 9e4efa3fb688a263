/**
 * Somebody else's vhost-user back-end as a device profile says, on a connected socket: messages in, answers out, and
 * its end where it cannot go on. What messages do is in backend-handlers.ts, what follows in backend-core.ts.
 * One thread; all of it runs on the given event loop. Must not know VMMs.
 */
import type { EventLoop } from "../linux/event-loop.js";
import { type Logger, silentLogger } from "../log/logger.js";
import type { AccessWatcher } from "../memory/watched-space.js";
import type { DeviceProfile } from "../profiles/device-profile.js";
import { type Answer, refused } from "../vhost/answer.js";
import { ReceivedFds } from "../vhost/descriptors.js";
import { type ConnectionEnd, MessageConnection } from "../vhost/message-connection.js";
import {
  decodeMessage,
  describeFrame,
  describeMessage,
  encodeAck,
  encodeReply,
  type Frame,
  type FrontendMessageName,
  isLegal,
  type Message,
  needsReply,
  replyDue,
} from "../vhost/wire/index.js";
import { VSOCK_QUEUE_COUNT } from "../virtio/index.js";
import type { Opener } from "../vsock/connection.js";
import type { HostEndpoints } from "../vsock/host-endpoints.js";
import { BackendCore } from "./backend-core.js";
import { PEER_HANDLERS } from "./backend-handlers.js";
import { DataPlane } from "./data-plane.js";
import { modelOf } from "./modelled.js";

const SUCCEEDED = 0n;
const FAILED = 1n;

export interface BackendModelParts {
  readonly loop: EventLoop;
  /** The connected socket; the model owns and closes it. */
  readonly fd: number;
  readonly profile: DeviceProfile;
  readonly guestCid: number;
  /** What is behind the host's ports. */
  readonly endpoints: HostEndpoints;
  readonly watcher?: AccessWatcher;
  readonly log?: Logger;
}

export class BackendModel {
  /** Why its process is gone, if it is. */
  exited: string | undefined;
  /** Why it closed the connection, if it did: its process is gone, or it gave up on this front-end only. */
  left: string | undefined;

  readonly #loop: EventLoop;
  readonly #log: Logger;
  readonly #plane: DataPlane;
  readonly #core: BackendCore;
  readonly #connection: MessageConnection;
  readonly #afterEvents = (): void => this.#core.ask();
  #isOpen = true;

  constructor(parts: BackendModelParts) {
    const { loop, fd, profile, guestCid, endpoints, watcher, log = silentLogger } = parts;
    this.#loop = loop;
    this.#log = log;
    this.#plane = new DataPlane({ loop, log, endpoints, queueCount: VSOCK_QUEUE_COUNT });
    this.#plane.guestCid = guestCid;
    this.#core = new BackendCore({ loop, device: modelOf(profile), plane: this.#plane, log, watcher });
    this.#connection = new MessageConnection(fd, loop, {
      frame: (frame) => this.#handle(frame),
      ended: (end) => this.#connectionEnded(end),
    });
    loop.afterEvents(this.#afterEvents);
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Addresses go through the IOTLB. */
  get translates(): boolean {
    return this.#core.model.translates;
  }

  /** Begins a connection from the host; see `VsockSwitch.connectGuest`. */
  connectGuest(guestPort: number, fd: number, opener: Opener): void {
    this.#plane.connectGuest(guestPort, fd, opener);
  }

  close(): void {
    this.#end("the device was closed");
  }

  #end(why: string): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#loop.removeAfterEvents(this.#afterEvents);
    this.#core.close(why);
    this.#connection.close();
    this.#log.log({ event: "session-end", message: why });
  }

  /** Gives up: on this connection, or with its whole process. */
  #leave(why: string): void {
    this.left ??= why;
    if (this.#core.device.unofferedFeatures === "exits") this.exited ??= why;
    this.#end(why);
  }

  #connectionEnded(end: ConnectionEnd): void {
    switch (end.how) {
      case "closed":
        this.#end(end.cut ?? "the front-end closed the connection");
        break;
      case "unreadable":
        this.#end(`the socket cannot be read: ${end.error}`);
        break;
      case "unwritable":
        this.#end(`the socket cannot be written: ${end.error}`);
        break;
      case "malformed":
        this.#leave(end.problem);
        break;
      case "descriptors-lost":
        this.#end("descriptors were lost on the way");
        break;
    }
  }

  #handle(frame: Frame): void {
    const fds = new ReceivedFds(frame.fds);
    const decoded = decodeMessage("frontend", frame);
    const name = decoded.ok ? describeMessage(decoded.value, { deviceType: "vsock" }) : describeFrame(frame);
    let answer: Answer;
    try {
      answer = decoded.ok ? this.#obey(decoded.value, fds) : refused(decoded.error.message);
    } finally {
      fds.closeRest();
    }
    const problem = this.#core.settle();
    if (problem !== undefined && answer.kind === "done") answer = refused(problem);
    this.#answer(frame, decoded.ok ? decoded.value : undefined, name, answer);
  }

  #obey(message: Message, fds: ReceivedFds): Answer {
    const name = message.record.name as FrontendMessageName;
    const handler = PEER_HANDLERS[name];
    if (handler === undefined || message.reply) return refused("it does not know this message");
    // An IOTLB has more than one switch; whether it is on is the device's business (backend-handlers.ts).
    if (name !== "IOTLB_MSG" && !isLegal(message.record, this.#core.words))
      return refused("the feature that makes it legal was not negotiated");
    return handler(this.#core, message, fds);
  }

  #answer(frame: Frame, message: Message | undefined, name: string, answer: Answer): void {
    const { header } = frame;
    const due = replyDue(message?.record, needsReply(header), this.#core.protocolFeatures);
    if (answer.kind === "refused" || answer.kind === "fatal") {
      this.#log.log({ event: "message-refused", message: `${name}: ${answer.rule}` });
      const { isStrict } = this.#core;
      if (due === "ack") this.#connection.send(encodeAck(header, FAILED));
      else if (due === "reply" && !isStrict) this.#connection.send(errorReply(frame, message));
      // Without an answer nobody would know: DPDK and the crates end the connection.
      if (due === "none" || isStrict) this.#leave(`${name}: ${answer.rule}`);
    } else if (answer.kind === "reply" && due === "reply") {
      this.#connection.send(encodeReply(header, answer.payload));
    } else if (due === "ack") {
      this.#connection.send(encodeAck(header, SUCCEEDED));
    }
  }
}

/** The error form of a message's own reply: a u64 where that is a result, nothing else. */
function errorReply({ header }: Frame, message: Message | undefined): Uint8Array {
  return message?.record.u64?.reply === "result"
    ? encodeAck(header, FAILED)
    : encodeReply(header, { kind: "none" });
}
