/**
 * One session from the front-end's start to its end: waits for it to connect, lets it go as far as the offer wants,
 * tries what can be tried once rings run, and says how it ended. Must not know what is concluded from it.
 */
import { closeSync } from "node:fs";
import { errno, errnoName } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import { acceptUnix } from "../linux/unix-socket.js";
import { FrontEndProcess } from "./front-end-process.js";
import type { Play } from "./offers.js";
import { ScriptedSession } from "./scripted-session.js";
import { EMPTY_TRANSCRIPT, type Outcome, type SessionRecord } from "./transcript.js";
import { until } from "./turning.js";

/** The start is over when nothing was said for this long. Front-ends send it in one go, within milliseconds. */
const QUIET_MS = 300;
/** How long the guest may take to answer a packet, and its unmapping to arrive (Linux's lazy mode: 10 ms). */
const GUEST_ANSWERS_MS = 3000;
const INVALIDATION_MS = 1000;
/** How long a front-end may think about a question that it does not expect. */
const UNEXPECTED_MISS_MS = 1000;
/** Between its leaving and its last words. */
const LAST_WORDS_MS = 2000;

export interface SessionOptions extends Play {
  readonly number: number;
  readonly listener: number;
  readonly loop: EventLoop;
  /** The shell command that starts the front-end; undefined where somebody else starts it. */
  readonly command: string | undefined;
  readonly timeoutMs: number;
  /** Ends the session, with everything that belongs to it, and the wait for it with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export async function playSession(options: SessionOptions): Promise<SessionRecord> {
  // Whoever is still waiting in the queue belongs to an earlier session.
  if (options.command !== undefined) dropWaiting(options.listener);
  const program = options.command === undefined ? undefined : new FrontEndProcess(options.command);
  const run = new SessionRun(options, program);
  try {
    return await run.play();
  } finally {
    run.close();
    await program?.stop();
  }
}

function dropWaiting(listener: number): void {
  for (let fd = acceptUnix(listener); fd >= 0; fd = acceptUnix(listener)) closeSync(fd);
}

class SessionRun {
  readonly #deadlineMs: number;
  #session: ScriptedSession | undefined;

  constructor(
    private readonly options: SessionOptions,
    private readonly program: FrontEndProcess | undefined,
  ) {
    this.#deadlineMs = performance.now() + options.timeoutMs;
  }

  async play(): Promise<SessionRecord> {
    const fd = await this.#accept();
    if (fd < 0) return this.#ended("absent", this.#whyAbsent(fd));
    const session = new ScriptedSession(fd, this.options.offer, this.options.loop);
    this.#session = session;
    if (this.options.offer.until === "protocol-features") return this.#untilProtocolFeatures(session);
    const began = await this.#wait(() => session.ringsRun || this.#isOver(session));
    if (!began) return this.#ended("silent", undefined);
    if (session.end !== undefined) return this.#left(session, session.end.how);
    if (!session.ringsRun) return this.#left(session, "left");
    await this.#wait(
      () => performance.now() - session.lastHeardMs > QUIET_MS || session.end !== undefined,
      10 * QUIET_MS,
    );
    if (session.end === undefined) await this.#try(session);
    return this.#started(session);
  }

  close(): void {
    this.#session?.close();
  }

  /** Lets the guest use its rings, and asks what only a front-end with an IOTLB can answer. */
  async #try(session: ScriptedSession): Promise<void> {
    const isOver = (): boolean => session.end !== undefined;
    if (session.serve()) {
      await this.#wait(() => session.hasMark("guest-answered") || isOver(), GUEST_ANSWERS_MS);
      const sawInvalidation = (): boolean => session.invalidations > 0;
      if (session.translates) await this.#wait(() => sawInvalidation() || isOver(), INVALIDATION_MS);
    }
    if (session.translates || !session.hasChannel || isOver()) return;
    session.sendUnexpectedMiss();
    const isAnswered = (): boolean => session.channelReplies > 0 || isOver();
    await this.#wait(isAnswered, UNEXPECTED_MISS_MS);
    // A program that dies of it may have answered first.
    await this.#wait(isOver, QUIET_MS);
  }

  async #started({ end }: ScriptedSession): Promise<SessionRecord> {
    if (end?.how === "malformed") return this.#ended("malformed", end.detail);
    return this.#ended("started", end === undefined ? undefined : await this.#lastWords());
  }

  async #untilProtocolFeatures(session: ScriptedSession): Promise<SessionRecord> {
    const isThere = (): boolean => session.heard("SET_PROTOCOL_FEATURES").length > 0;
    const isDone = await this.#wait(() => isThere() || this.#isOver(session));
    if (!isDone) return this.#ended("silent", undefined);
    if (isThere()) return this.#ended("ended-as-planned", undefined);
    return this.#left(session, session.end?.how ?? "left");
  }

  async #left(session: ScriptedSession, how: "left" | "malformed"): Promise<SessionRecord> {
    if (how === "malformed") return this.#ended("malformed", session.end?.detail);
    const says = await this.#lastWords();
    return this.#ended("left", says ?? `it ${session.end?.detail ?? "ended"}`);
  }

  #isOver(session: ScriptedSession): boolean {
    return session.end !== undefined || this.program?.end !== undefined;
  }

  /** A connection, -EAGAIN if none came, another `-errno` if none can be taken. */
  async #accept(): Promise<number> {
    let fd = -errno.EAGAIN;
    await this.#wait(() => {
      fd = acceptUnix(this.options.listener);
      return fd !== -errno.EAGAIN || this.program?.end !== undefined;
    });
    return fd;
  }

  #whyAbsent(result: number): string {
    if (result !== -errno.EAGAIN) return `accepting it failed with ${errnoName(-result)}`;
    if (this.program?.end === undefined) return "nobody connected";
    const { end, lastLine } = this.program;
    return `it ended (${end}) and never connected${lastLine === undefined ? "" : `: ${lastLine}`}`;
  }

  /** What the program said last, once it had time to say it. */
  async #lastWords(): Promise<string | undefined> {
    if (this.program === undefined) return undefined;
    await this.#wait(() => this.program?.end !== undefined, LAST_WORDS_MS);
    return this.program.lastLine ?? this.program.end;
  }

  #wait(condition: () => boolean, limitMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    const { loop, signal } = this.options;
    return until(loop, condition, Math.min(limitMs, this.#deadlineMs - performance.now()), signal);
  }

  #ended(outcome: Outcome, says: string | undefined): SessionRecord {
    const { number, offer, machine } = this.options;
    const session = this.#session;
    return {
      number,
      offer,
      machine,
      outcome,
      says,
      transcript: session?.transcript ?? EMPTY_TRANSCRIPT,
      diedServing: outcome === "started" && session?.end !== undefined,
    };
  }
}
