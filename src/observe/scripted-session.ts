/**
 * A back-end session that is there to be looked at: offers what its script says, obeys whatever it can, refuses
 * nothing that a served device would refuse for its own safety, and writes every message down. What a message does is
 * src/vhost's (SessionCore and its handlers); only the negotiated words and the back-end channel are answered here.
 */
import { closeSync } from "node:fs";
import { SystemCallError } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import { silentLogger } from "../log/logger.js";
import { type Answer, DONE, refused, reply, replyU64 } from "../vhost/answer.js";
import { replyTo } from "../vhost/backend-session.js";
import { ReceivedFds } from "../vhost/descriptors.js";
import { HANDLERS } from "../vhost/handlers.js";
import { type ConnectionEnd, MessageConnection } from "../vhost/message-connection.js";
import { SessionCore } from "../vhost/session-core.js";
import {
  decodeMessage,
  describeMessage,
  encodeRequest,
  type Frame,
  type FrontendMessageName,
  IOTLB_PERM,
  IOTLB_TYPE,
  type Message,
  messageById,
} from "../vhost/wire/index.js";
import { DEFAULT_EXPLICIT_IOTLB_BIT, F, has } from "../virtio/index.js";
import { ChannelTap } from "./channel-tap.js";
import type { Offer } from "./offers.js";
import { ProbeDevice } from "./probe.js";
import type { Entry, Mark, Transcript } from "./transcript.js";

/** The largest split ring there is: whatever size a front-end chooses is taken. */
const ANY_QUEUE_SIZE = 32768;
/** As a served device's. */
const PROBATION_MS = 50;
const UNREAD = "does not read its answers";

/** How the session is over. */
export interface SessionEnd {
  readonly how: "left" | "malformed";
  readonly detail: string;
}

export class ScriptedSession {
  end: SessionEnd | undefined;
  /** When the front-end last said something on the session's socket, in the clock of `performance`. */
  lastHeardMs = performance.now();
  readonly #loop: EventLoop;
  readonly #offer: Offer;
  readonly #core: SessionCore;
  readonly #device: ProbeDevice;
  readonly #connection: MessageConnection;
  readonly #afterEvents = (): void => this.#core.afterEvents();
  readonly #beganMs = performance.now();
  readonly #entries: Entry[] = [];
  readonly #marks: { mark: Mark; after: number }[] = [];
  #tap: ChannelTap | undefined;
  #closed = false;

  /** Takes ownership of `fd`, a connected socket. */
  constructor(fd: number, offer: Offer, loop: EventLoop) {
    this.#loop = loop;
    this.#offer = offer;
    this.#device = new ProbeDevice(loop, offer.features);
    this.#device.onAsked = () => this.#mark("asked-guest");
    this.#device.onAnswered = () => this.#mark("guest-answered");
    this.#core = new SessionCore({
      loop,
      device: this.#device,
      policy: {
        iotlb: "auto",
        explicitBit: DEFAULT_EXPLICIT_IOTLB_BIT,
        accessPlatform: has(offer.features, F.ACCESS_PLATFORM),
        probationMs: PROBATION_MS,
        queueSizeMax: ANY_QUEUE_SIZE,
      },
      log: silentLogger,
    });
    this.#connection = new MessageConnection(fd, loop, {
      frame: (frame) => this.#handle(frame),
      ended: (end) => this.#connectionEnded(end),
    });
    loop.afterEvents(this.#afterEvents);
  }

  get transcript(): Transcript {
    return { entries: this.#entries, marks: this.#marks };
  }

  hasMark(mark: Mark): boolean {
    return this.#marks.some((each) => each.mark === mark);
  }

  /** The front-end's messages of a name, so far. */
  heard(name: FrontendMessageName): Message[] {
    return this.#entries
      .filter(({ from, message }) => from === "front-end" && message.record.name === name)
      .map(({ message }) => message);
  }

  /** A ring may be processed, as far as the front-end has said. */
  get ringsRun(): boolean {
    return this.#core.rings.ready.length > 0;
  }

  get translates(): boolean {
    return this.#core.translation.state === "on";
  }

  get hasChannel(): boolean {
    return this.#tap?.isOpen === true;
  }

  /** INVALIDATEs so far. */
  get invalidations(): number {
    return this.heard("IOTLB_MSG").filter(
      ({ payload }) => payload.kind === "iotlb" && payload.type === IOTLB_TYPE.INVALIDATE,
    ).length;
  }

  /** Answers on the back-end channel so far. */
  get channelReplies(): number {
    return this.#entries.filter(({ on, message }) => on === "channel" && message.reply).length;
  }

  /** The start is over: touches the rings from now on, where they are of the layout that is served here. */
  serve(): boolean {
    this.#mark("serving");
    this.#device.mayServe = !has(this.#core.features, F.RING_PACKED) && this.#core.translation.decided;
    this.#loop.requestTurn();
    return this.#device.mayServe;
  }

  /** Asks on the back-end channel for what no front-end expects that does not translate. */
  sendUnexpectedMiss(): void {
    this.#mark("sent-unexpected-miss");
    const iova = BigInt(this.#core.memory.regions[0]?.gpa ?? 0);
    const payload = { kind: "iotlb", iova, size: 0n, userAddress: 0n, perm: IOTLB_PERM.read } as const;
    this.#tap?.send(
      encodeRequest("backend", "IOTLB_MSG", { ...payload, type: IOTLB_TYPE.MISS }, { needReply: true }),
    );
  }

  /** Ends the session from our side, if it has not ended. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#loop.removeAfterEvents(this.#afterEvents);
    this.#core.close("the observation is over");
    this.#device.sessionEnded();
    this.#tap?.close();
    this.#connection.close();
  }

  #mark(mark: Mark): void {
    this.#marks.push({ mark, after: this.#entries.length });
  }

  #note(from: Entry["from"], on: Entry["on"], message: Message): void {
    const atMs = performance.now() - this.#beganMs;
    this.#entries.push({ atMs, from, on, message, text: describeMessage(message, { deviceType: "vsock" }) });
  }

  #over(how: SessionEnd["how"], detail: string): void {
    this.end ??= { how, detail };
    this.close();
  }

  #connectionEnded(end: ConnectionEnd): void {
    switch (end.how) {
      case "closed":
      case "unreadable":
        if (end.cut !== undefined) this.#over("malformed", end.cut);
        else this.#over("left", end.how === "closed" ? "closed the connection" : end.error);
        break;
      case "unwritable":
        this.#over("left", UNREAD);
        break;
      case "malformed":
        this.#over("malformed", end.problem);
        break;
      case "descriptors-lost":
        this.#over("malformed", "descriptors were lost: too many came, or too many files are open");
        break;
    }
  }

  #handle(frame: Frame): void {
    this.lastHeardMs = performance.now();
    const fds = new ReceivedFds(frame.fds);
    const decoded = decodeMessage("frontend", frame);
    let answer: Answer;
    try {
      if (decoded.ok) this.#note("front-end", "socket", decoded.value);
      answer = decoded.ok ? this.#obey(decoded.value, fds) : refused(decoded.error.message);
    } finally {
      fds.closeRest();
    }
    this.#core.settle();
    const record = messageById("frontend", frame.header.request);
    const bytes = replyTo(frame.header, record, answer, this.#core.protocolFeatures);
    if (bytes !== undefined) this.#send(bytes);
  }

  /** Answers are short: a front-end that leaves no room for one does not read them. */
  #send(bytes: Uint8Array): void {
    this.#connection.send(bytes);
    if (this.#connection.isHeldUp) this.#over("left", UNREAD);
  }

  #obey(message: Message, fds: ReceivedFds): Answer {
    const { payload, reply: isReply } = message;
    if (isReply) return refused("a reply where a request is due");
    const name = message.record.name as FrontendMessageName;
    const word = payload.kind === "u64" ? payload.value : 0n;
    switch (name) {
      case "GET_FEATURES":
        return replyU64(this.#offer.features);
      case "GET_PROTOCOL_FEATURES":
        return replyU64(this.#offer.protocolFeatures);
      case "SET_FEATURES":
        this.#core.acknowledgeFeatures(word);
        return DONE;
      case "SET_PROTOCOL_FEATURES":
        return this.#acknowledgeProtocol(word);
      case "SET_BACKEND_REQ_FD":
        return this.#openChannel(fds);
      case "GET_SHMEM_CONFIG":
        return reply({ kind: "shmemConfig", regionCount: 0, sizes: [] });
      default:
        return HANDLERS[name]?.(this.#core, message, fds) ?? refused("not implemented here");
    }
  }

  #acknowledgeProtocol(word: bigint): Answer {
    // They may change what addresses of regions mean that are there already.
    if (this.#core.memory.regions.length > 0) return refused("memory was shared before");
    this.#core.acknowledgeProtocolFeatures(word);
    return DONE;
  }

  #openChannel(fds: ReceivedFds): Answer {
    const fd = fds.take();
    if (fd === undefined) return refused("no descriptor came with it");
    this.#tap?.close();
    try {
      this.#tap = new ChannelTap(fd, this.#loop, {
        passed: (from, message) => this.#note(from, "channel", message),
        closed: () => this.#mark("channel-closed"),
      });
    } catch (error) {
      closeSync(fd);
      if (error instanceof SystemCallError) return refused(error.message);
      throw error;
    }
    const problem = this.#core.link.openChannel(this.#tap.sessionFd);
    return problem === undefined ? DONE : refused(problem);
  }
}
