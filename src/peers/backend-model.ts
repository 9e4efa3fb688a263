/**
 * Somebody else's vhost-user back-end as a device profile says, on a connected socket: messages in, answers out, and
 * its end where it cannot go on. What messages do is in backend-handlers.ts, what follows in backend-core.ts.
 * One thread; all of it runs on the given event loop. Must not know VMMs.
 */
import { closeSync } from "node:fs";
import { EPOLLIN, EPOLLOUT } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import { receiveMessage } from "../linux/message-socket.js";
import { setNonBlocking } from "../linux/unix-socket.js";
import { type Logger, silentLogger } from "../log/logger.js";
import type { AccessWatcher } from "../memory/watched-space.js";
import type { DeviceProfile } from "../profiles/device-profile.js";
import { type Answer, refused } from "../vhost/answer.js";
import { ReceivedFds } from "../vhost/descriptors.js";
import { Outbox } from "../vhost/outbox.js";
import {
  decodeMessage,
  describeFrame,
  describeMessage,
  encodeAck,
  encodeReply,
  type Frame,
  FrameDecoder,
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

export class BackendModel implements EventHandler {
  /** Why its process is gone, if it is. */
  exited: string | undefined;
  /** Why it closed the connection, if it did: its process is gone, or it gave up on this front-end only. */
  left: string | undefined;

  readonly #parts: BackendModelParts;
  readonly #log: Logger;
  readonly #plane: DataPlane;
  readonly #core: BackendCore;
  readonly #decoder = new FrameDecoder();
  readonly #outbox: Outbox;
  readonly #token: number;
  readonly #afterEvents = (): void => this.#core.ask();
  #isOpen = true;

  constructor(parts: BackendModelParts) {
    const { loop, fd, profile, guestCid, endpoints, watcher, log = silentLogger } = parts;
    this.#parts = parts;
    this.#log = log;
    this.#plane = new DataPlane({ loop, log, endpoints, queueCount: VSOCK_QUEUE_COUNT });
    this.#plane.guestCid = guestCid;
    this.#core = new BackendCore({ loop, device: modelOf(profile), plane: this.#plane, log, watcher });
    this.#outbox = new Outbox(fd);
    setNonBlocking(fd);
    this.#token = loop.watch(fd, EPOLLIN, this);
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
    const { loop, fd } = this.#parts;
    loop.removeAfterEvents(this.#afterEvents);
    loop.unwatch(fd, this.#token);
    this.#core.close(why);
    for (const received of this.#decoder.releaseFds()) closeSync(received);
    closeSync(fd);
    this.#log.log({ event: "session-end", message: why });
  }

  /** Gives up: on this connection, or with its whole process. */
  #leave(why: string): void {
    this.left ??= why;
    if (this.#core.device.unofferedFeatures === "exits") this.exited ??= why;
    this.#end(why);
  }

  onEvents(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#flush();
    if (this.#isOpen && (events & ~EPOLLOUT) !== 0) this.#read();
  }

  #flush(): void {
    const result = this.#outbox.flush();
    if (result < 0) this.#end(`the socket cannot be written: ${errnoName(-result)}`);
    else if (this.#outbox.isEmpty) this.#parts.loop.modify(this.#parts.fd, EPOLLIN, this.#token);
  }

  #read(): void {
    while (this.#isOpen && this.#outbox.isEmpty && this.#receive()) {
      const next = this.#decoder.next();
      if (next === undefined) continue;
      if (next.ok) this.#handle(next.value);
      else this.#leave(next.error.message);
    }
  }

  /** False if nothing is there, or the session is over. */
  #receive(): boolean {
    const { result, bytes, descriptors } = receiveMessage(this.#parts.fd, this.#decoder.bytesWanted);
    if (result > 0) {
      this.#decoder.push(bytes, descriptors);
      return true;
    }
    if (result === 0) this.#end("the front-end closed the connection");
    else if (result !== -errno.EAGAIN) this.#end(`the socket cannot be read: ${errnoName(-result)}`);
    return false;
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
      if (due === "ack") this.#send(encodeAck(header, FAILED));
      else if (due === "reply" && !isStrict) this.#send(errorReply(frame, message));
      // Without an answer nobody would know: DPDK and the crates end the connection.
      if (due === "none" || isStrict) this.#leave(`${name}: ${answer.rule}`);
    } else if (answer.kind === "reply" && due === "reply") {
      this.#send(encodeReply(header, answer.payload));
    } else if (due === "ack") {
      this.#send(encodeAck(header, SUCCEEDED));
    }
  }

  #send(bytes: Uint8Array): void {
    if (!this.#isOpen) return;
    const result = this.#outbox.send(bytes);
    if (result < 0) this.#end(`the socket cannot be written: ${errnoName(-result)}`);
    else if (!this.#outbox.isEmpty) this.#parts.loop.modify(this.#parts.fd, EPOLLOUT, this.#token);
  }
}

/** The error form of a message's own reply: a u64 where that is a result, nothing else. */
function errorReply({ header }: Frame, message: Message | undefined): Uint8Array {
  return message?.record.u64?.reply === "result"
    ? encodeAck(header, FAILED)
    : encodeReply(header, { kind: "none" });
}
