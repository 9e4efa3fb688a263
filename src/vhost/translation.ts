/**
 * The translation mode of a session: whether addresses go through the IOTLB. Decided from evidence, as a pure state
 * machine; bit 33 alone never decides it. Must not know sockets, rings or memory: the session tells it facts.
 * The ids and the words for people are in translation-reasons.ts.
 *
 * The decision holds for one *negotiation epoch*: from a SET_FEATURES that finds no ring running to the next such.
 * Within an epoch `on` and `off` are final. Across epochs `auto` decides anew, because a guest that reboots from a
 * Linux with a vIOMMU into firmware without one is honest, and then it is the front-end that stops translating: it
 * sends SET_FEATURES without bit 33 and user addresses. Staying `on` would break that guest and protect nothing,
 * since whoever could make the front-end send user addresses in one epoch can do so in the first one as well. (Only
 * the option `on` protects; see `auto` below.) One thing is kept: a front-end that has sent IOTLB messages in this
 * session does so whenever it acknowledges bit 33, so with the bit acknowledged again the mode is `on` at once, and
 * no driver can wait out a probation.
 */

import type { ReasonId } from "./translation-reasons.js";
import { explain } from "./translation-reasons.js";

/** What the operator asked for: `--iotlb`. */
export type TranslationOption = "auto" | "on" | "off" | "explicit";

/**
 * - `undecided`: nothing is reachable, rings included, and no MISS is sent.
 * - `off`: ring addresses are user addresses (guest-physical under GPA_ADDRESSES), buffers are guest-physical.
 * - `on`: every address is an IOVA.
 * - `refused`: the evidence allows neither; rings do not start. Not final: new evidence is judged anew.
 */
export type TranslationState = "undecided" | "off" | "on" | "refused";

/** Where the ring addresses lie that were set so far: in the ranges of the memory table, all of them, or not. */
export type RingEvidence = "none-ready" | "inside" | "outside";

/** The facts on which the mode is decided. */
export interface Evidence {
  /** Bit 33 was acknowledged. */
  readonly accessPlatform: boolean;
  /** The experimental explicit IOTLB was negotiated. */
  readonly explicitFeature: boolean;
  /** There is a back-end channel to send a MISS on. */
  readonly channel: boolean;
  /** An UPDATE or INVALIDATE arrived in this epoch. */
  readonly iotlbMessage: boolean;
  /** Judged once a ring is started and enabled; `none-ready` before. */
  readonly rings: RingEvidence;
  readonly probation: "not-begun" | "running" | "over";
  /** An earlier epoch of this session was translated. */
  readonly translatedBefore: boolean;
}

/** A state and the one reason for it. */
export interface Judgement {
  readonly state: TranslationState;
  readonly reason: ReasonId;
}

const verdict = (state: TranslationState, reason: ReasonId): Judgement => ({ state, reason });

/** The decision table (ARCHITECTURE.md, decision 6). Pure: the same evidence gives the same judgement. */
export function judge(option: TranslationOption, evidence: Evidence): Judgement {
  switch (option) {
    case "off":
      return verdict("off", "option-off");
    case "on":
      return verdict("on", "option-on");
    case "explicit":
      return evidence.explicitFeature
        ? verdict("on", "explicit-negotiated")
        : verdict("off", "explicit-not-negotiated");
    case "auto":
      return evidence.accessPlatform ? judgeWithBit33(evidence) : judgeWithoutBit33(evidence);
  }
}

function judgeWithoutBit33({ rings }: Evidence): Judgement {
  if (rings === "none-ready") return verdict("undecided", "no-ring-ready");
  return rings === "inside" ? verdict("off", "bit-33-absent") : verdict("refused", "outside-without-bit-33");
}

function judgeWithBit33(evidence: Evidence): Judgement {
  const { channel, rings, iotlbMessage, translatedBefore, probation } = evidence;
  if (iotlbMessage) return channel ? verdict("on", "iotlb-message") : verdict("refused", "no-channel-to-ask");
  if (rings === "none-ready") return verdict("undecided", "no-ring-ready");
  if (rings === "outside") {
    return channel ? verdict("on", "ring-outside") : verdict("refused", "no-channel-to-ask");
  }
  if (!channel) return verdict("off", "inside-without-channel");
  if (translatedBefore) return verdict("on", "translated-before");
  return probation === "over" ? verdict("off", "silence") : verdict("undecided", "probation");
}

/** What the log, the metrics and the demo say of a decision. */
export interface TranslationRecord extends Judgement {
  /** The facts in words, most telling first. */
  readonly evidence: readonly string[];
  /** One paragraph for a person. */
  readonly explanation: string;
}

/** What to do with an IOTLB message that arrived. */
export type IotlbVerdict =
  | { readonly action: "take" }
  /** Answer non-zero; `closes` says that the session cannot go on, since what it assumed turned out wrong. */
  | { readonly action: "refuse"; readonly reason: ReasonId; readonly closes: boolean };

const NO_EVIDENCE: Evidence = {
  accessPlatform: false,
  explicitFeature: false,
  channel: false,
  iotlbMessage: false,
  rings: "none-ready",
  probation: "not-begun",
  translatedBefore: false,
};

/** The state machine of one session: gathers evidence, latches `on` and `off` until the epoch ends. */
export class Translation {
  #evidence: Evidence = NO_EVIDENCE;
  #judgement: Judgement;
  /** Where a ring lies, in words. */
  #ringNote = "";

  constructor(
    readonly option: TranslationOption,
    readonly probationMs: number,
  ) {
    this.#judgement = judge(option, NO_EVIDENCE);
  }

  get state(): TranslationState {
    return this.#judgement.state;
  }

  get reason(): ReasonId {
    return this.#judgement.reason;
  }

  get evidence(): Evidence {
    return this.#evidence;
  }

  /** Whether the mode is known and rings may run. */
  get decided(): boolean {
    return this.state === "on" || this.state === "off";
  }

  /** Rings are held until `probationOver` or other evidence: the session runs a timer meanwhile. */
  get onProbation(): boolean {
    return this.#judgement.reason === "probation";
  }

  /** SET_FEATURES found no ring running, or the device was reset: the mode is open again. */
  beginEpoch(accessPlatform: boolean, channel: boolean): void {
    const { explicitFeature, translatedBefore } = this.#evidence;
    this.#evidence = {
      ...NO_EVIDENCE,
      accessPlatform,
      explicitFeature,
      channel,
      translatedBefore: translatedBefore || this.state === "on",
    };
    this.#ringNote = "";
    this.#judgement = judge(this.option, this.#evidence);
  }

  /** SET_PROTOCOL_FEATURES; accepted only while no ring runs. */
  setExplicitFeature(explicitFeature: boolean): void {
    this.#evidence = { ...this.#evidence, explicitFeature };
    this.#judgement = judge(this.option, this.#evidence);
  }

  /**
   * SET_BACKEND_REQ_FD. A channel that is lost counts as absent from the next epoch on, not before: a front-end that is
   * going away must not end a probation by it.
   */
  channelOpened(): void {
    this.#add({ channel: true });
  }

  /** A ring is started and enabled: where the addresses of all rings lie, and where the telling one is. */
  ringsReady(rings: "inside" | "outside", note: string): void {
    this.#ringNote = note;
    this.#add({ rings });
    if (this.onProbation) this.#add({ probation: "running" });
  }

  /** No ring is ready any more (disabled or stopped again before anything was decided). */
  ringsGone(): void {
    this.#ringNote = "";
    this.#add({ rings: "none-ready", probation: "not-begun" });
  }

  probationOver(): void {
    this.#add({ probation: "over" });
  }

  /** An UPDATE or INVALIDATE arrived: evidence, if the mode is open. Says what to do with the message. */
  iotlbMessage(): IotlbVerdict {
    if (this.option === "auto" && this.#evidence.accessPlatform) this.#add({ iotlbMessage: true });
    const { state, reason } = this.#judgement;
    if (state === "on") return { action: "take" };
    // By option the operator said so; in `auto` a message that contradicts `off` proves the decision wrong.
    return { action: "refuse", reason, closes: this.option === "auto" && state === "off" };
  }

  get record(): TranslationRecord {
    const { state, reason } = this.#judgement;
    return {
      state,
      reason,
      evidence: this.#evidenceInWords(),
      explanation: explain(reason, { ring: this.#ringNote, probationMs: this.probationMs }),
    };
  }

  #add(more: Partial<Evidence>): void {
    this.#evidence = { ...this.#evidence, ...more };
    if (!this.decided) this.#judgement = judge(this.option, this.#evidence);
  }

  #evidenceInWords(): string[] {
    const { accessPlatform, channel, iotlbMessage, probation, explicitFeature, translatedBefore } =
      this.#evidence;
    const words = [`option ${this.option}`];
    words.push(accessPlatform ? "bit 33 acknowledged" : "bit 33 not acknowledged");
    if (this.option === "explicit") {
      words.push(explicitFeature ? "explicit IOTLB negotiated" : "explicit IOTLB not negotiated");
    }
    words.push(channel ? "back-end channel present" : "no back-end channel");
    if (this.#ringNote !== "") words.push(this.#ringNote);
    if (iotlbMessage) words.push("an IOTLB message arrived");
    if (translatedBefore) words.push("translated earlier in this session");
    if (probation === "over") words.push(`no IOTLB message within ${this.probationMs} ms`);
    return words;
  }
}
