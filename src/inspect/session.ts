/**
 * One session under inspection: frames or messages go in, in their order; out comes for each what it is, what it
 * answers, and what is wrong with it. Pure and synchronous: a replayed capture gives what the live session gave. Time
 * passes by the frames' own clock; a live source calls `passTime` as well, so that silence is noticed. Must not know
 * where frames come from, nor how anything looks.
 */

import type { DescribeOptions } from "../vhost/wire/index.js";
import { Figures } from "./figures.js";
import type { Remark, SessionEnd, SessionFrame, SessionStart } from "./frame.js";
import { lineOf } from "./line.js";
import { LINTS } from "./lints/index.js";
import type { Lint, LintTable, MessageLook, Severity, Sightings } from "./lints/lint.js";
import { messageOf, type SessionMessage } from "./message.js";
import { SessionModel } from "./model/session-model.js";
import { Pairings } from "./pairing.js";
import { packetHeader, type RingFault, type RingPacket, type SessionTraffic } from "./rings/traffic.js";

/** How often it is looked for what is overdue. */
const LOOK_EVERY_NS = 100_000_000n;

export interface InspectOptions {
  /** All of them by default. */
  readonly lints?: LintTable;
  /** What gives bits of the device type their names. */
  readonly describe?: DescribeOptions;
}

/** Things that one lint is about in one session. A broken peer can have as many as it sends messages. */
const MOST_SUBJECTS = 64;

/** A lint's sighting in a session. */
export interface Finding {
  readonly lint: string;
  readonly severity: Severity;
  readonly text: string;
  readonly timeNs: bigint;
  /** Number and line of the message that shows it; absent for what only time or the end shows. */
  readonly shownBy: { readonly number: number; readonly line: string } | undefined;
  /** How often it was seen of the same thing; grows while the session lasts. */
  count: number;
}

/** The message that shows a finding, its line not written yet. */
interface Shown {
  readonly number: number;
  readonly line: () => string;
}

/** What became of one message. */
export interface Observed {
  /** From 1 on. */
  readonly number: number;
  readonly message: SessionMessage;
  /** The message on one line, without its time. */
  readonly line: string;
  /** For an answer: the number of its request, and how long that waited. */
  readonly answers: { readonly number: number; readonly afterNs: bigint } | undefined;
  /** Those that are new. */
  readonly findings: readonly Finding[];
}

export class InspectedSession {
  readonly model: SessionModel;
  readonly figures = new Figures();
  end: SessionEnd | undefined;
  /** Given before the end, if somebody followed the rings. */
  traffic: SessionTraffic | undefined;
  readonly #findings = new Map<string, Finding>();
  readonly #perLint = new Map<string, number>();
  readonly #pairings = { main: new Pairings(), backend: new Pairings() };
  readonly #asked: Asked;
  readonly #describe: DescribeOptions;
  #count = 0;
  /** The last moment at which it was looked for what is overdue. */
  #lookedNs: bigint;

  constructor(
    readonly start: SessionStart,
    options: InspectOptions = {},
  ) {
    const deviceType = options.describe?.deviceType ?? start.deviceType;
    this.model = new SessionModel(start.transport, deviceType);
    this.#lookedNs = start.timeNs;
    this.#asked = askedOf(options.lints ?? LINTS);
    this.#describe = { ...options.describe, ...(deviceType === undefined ? {} : { deviceType }) };
  }

  /** Every finding so far, in the order of their first sighting. */
  get findings(): readonly Finding[] {
    return [...this.#findings.values()];
  }

  frame(frame: SessionFrame): Observed {
    return this.message(messageOf(frame));
  }

  message(message: SessionMessage): Observed {
    const findings = [...this.passTime(message.timeNs)];
    const { model } = this;
    const number = ++this.#count;
    if (number === 1) model.begin(message);
    const line = this.#lineFor(message);
    const shownBy: Shown = { number, line };
    const pairings = this.#pairings[message.channel];
    const isAnswer = message.isReply && isAgainst(message);
    const pairing = isAnswer ? pairings.answer(message) : undefined;
    const look: MessageLook = { model, message, pairing };
    for (const { id, lint, onMessage } of this.#asked.onMessage)
      this.#note(findings, id, lint, onMessage(look), message.timeNs, shownBy);
    const before = model.runningRings;
    model.apply(message, pairing?.request?.message);
    if (!message.isReply) pairings.ask(number, message, model);
    for (const ring of model.runningRings) {
      if (before.includes(ring)) continue;
      for (const { id, lint, onRun } of this.#asked.onRun)
        this.#note(findings, id, lint, onRun({ model, message, ring }), message.timeNs, shownBy);
    }
    const request = pairing?.request;
    const answers = request && { number: request.number, afterNs: message.timeNs - request.message.timeNs };
    this.figures.take(message, answers?.afterNs);
    return {
      number,
      message,
      get line() {
        return line();
      },
      answers,
      findings,
    };
  }

  /** Written when somebody wants it; the spaces of ring addresses are as they are now. */
  #lineFor(message: SessionMessage): () => string {
    let line: string | undefined;
    const write = (): string => {
      line ??= lineOf(message, this.model, this.#describe);
      return line;
    };
    if (message.payload?.kind === "vringAddr") write();
    return write;
  }

  /**
   * Nothing came up to now: what is overdue? Called with times that do not go back. It is looked for at whole multiples
   * of a time since the session began, so that it does not matter how often this is called.
   */
  passTime(nowNs: bigint): readonly Finding[] {
    const sinceNs = nowNs - this.start.timeNs;
    const lookNs = this.start.timeNs + sinceNs - (sinceNs % LOOK_EVERY_NS);
    if (lookNs <= this.#lookedNs) return [];
    this.#lookedNs = lookNs;
    const open = [...this.#pairings.main.open, ...this.#pairings.backend.open];
    const { model } = this;
    const findings: Finding[] = [];
    for (const { id, lint, onTime } of this.#asked.onTime)
      this.#note(findings, id, lint, onTime({ model, nowNs: lookNs, open }), lookNs, undefined);
    return findings;
  }

  /** A ring carried this, where somebody follows the rings. Returns the findings that are new. */
  packet(packet: RingPacket): readonly Finding[] {
    const findings: Finding[] = [];
    const look = { model: this.model, packet, header: packetHeader(packet) };
    for (const { id, lint, onPacket } of this.#asked.onPacket)
      this.#note(findings, id, lint, onPacket(look), packet.timeNs, undefined, true);
    return findings;
  }

  /** Likewise, for what a ring holds against its rules. */
  fault(fault: RingFault): readonly Finding[] {
    const findings: Finding[] = [];
    for (const { id, lint, onFault } of this.#asked.onFault)
      this.#note(findings, id, lint, onFault({ fault }), fault.timeNs, undefined);
    return findings;
  }

  /** What the source knows and no message shows. */
  remark(remark: Remark): void {
    if (remark.isBroken === true) this.model.broken ??= remark.text;
    if (!remark.isGap) return;
    this.model.hasGap = true;
    this.#pairings.main.clear();
    this.#pairings.backend.clear();
  }

  finish(end: SessionEnd): readonly Finding[] {
    const findings = [...this.passTime(end.timeNs)];
    this.end = end;
    const { model } = this;
    for (const { id, lint, onEnd } of this.#asked.onEnd)
      this.#note(findings, id, lint, onEnd({ model, by: end.by }), end.timeNs, undefined);
    return findings;
  }

  /** What a finding is kept by. From some number on, all others of its lint are taken together. */
  #keyOf(lint: string, subject: string | number): string {
    const key = `${lint} ${subject}`;
    if (this.#findings.has(key)) return key;
    const known = this.#perLint.get(lint) ?? 0;
    if (known >= MOST_SUBJECTS) return `${lint} …`;
    this.#perLint.set(lint, known + 1);
    return key;
  }

  /** Adds the findings that are new to `fresh`; of the others, it counts. */
  #note(
    fresh: Finding[],
    lint: string,
    { severity }: Lint,
    sightings: Sightings,
    timeNs: bigint,
    shownBy: Shown | undefined,
    isOccurrence = shownBy !== undefined,
  ): void {
    if (sightings === undefined) return;
    for (const { text, subject = "", atNs = timeNs } of "text" in sightings ? [sightings] : sightings) {
      const key = this.#keyOf(lint, subject);
      const known = this.#findings.get(key);
      if (known === undefined) {
        const shown = shownBy && { number: shownBy.number, line: shownBy.line() };
        const finding: Finding = { lint, severity, text, timeNs: atNs, shownBy: shown, count: 1 };
        this.#findings.set(key, finding);
        fresh.push(finding);
      } else if (isOccurrence) known.count++;
    }
  }
}

/** The lints that are asked at each occasion, with what they are asked. */
type Asked = {
  readonly [Occasion in "onMessage" | "onRun" | "onPacket" | "onFault" | "onTime" | "onEnd"]: readonly ({
    readonly id: string;
    readonly lint: Lint;
  } & { readonly [Name in Occasion]-?: NonNullable<Lint[Name]> })[];
};

function askedOf(lints: LintTable): Asked {
  const all = Object.entries(lints);
  return {
    onMessage: all.flatMap(([id, lint]) => (lint.onMessage ? [{ id, lint, onMessage: lint.onMessage }] : [])),
    onRun: all.flatMap(([id, lint]) => (lint.onRun ? [{ id, lint, onRun: lint.onRun }] : [])),
    onPacket: all.flatMap(([id, lint]) => (lint.onPacket ? [{ id, lint, onPacket: lint.onPacket }] : [])),
    onFault: all.flatMap(([id, lint]) => (lint.onFault ? [{ id, lint, onFault: lint.onFault }] : [])),
    onTime: all.flatMap(([id, lint]) => (lint.onTime ? [{ id, lint, onTime: lint.onTime }] : [])),
    onEnd: all.flatMap(([id, lint]) => (lint.onEnd ? [{ id, lint, onEnd: lint.onEnd }] : [])),
  };
}

/** Answers go against their channel's requests; a message with REPLY in the other direction is none. */
function isAgainst({ channel, direction }: SessionMessage): boolean {
  return channel === "main" ? direction === "to-frontend" : direction === "to-backend";
}
