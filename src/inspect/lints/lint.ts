/**
 * What a lint is: a record with a small pure check. Which there are is in the tables beside this file (index.ts has
 * them all); when each is asked is in ../session.ts. A check looks at the model and says what is wrong, and changes
 * nothing.
 */
import type { PacketHeader } from "../../vsock/header.js";
import type { Ender } from "../frame.js";
import type { SessionMessage } from "../message.js";
import type { RingModel } from "../model/ring-model.js";
import type { SessionModel } from "../model/session-model.js";
import type { OpenRequest, Pairing } from "../pairing.js";
import type { RingFault, RingPacket } from "../rings/traffic.js";

/**
 * - `error`: against the rule, and something breaks or is lost.
 * - `warning`: against the rule, or known to break some peers.
 * - `info`: legal, and worth knowing when something else does not work.
 */
export type Severity = "info" | "warning" | "error";

export const SEVERITIES: readonly Severity[] = ["info", "warning", "error"];

export function isAtLeast(severity: Severity, least: Severity): boolean {
  return SEVERITIES.indexOf(severity) >= SEVERITIES.indexOf(least);
}

/** What a check saw. */
export interface Sighting {
  /** One line: what was sent, and what would have been due. */
  readonly text: string;
  /** What it is about (a bit, a ring, a region); a lint reports once for each in a session. */
  readonly subject?: string | number;
  /** When it became so, if that was before now: the end of the time within which something was due. */
  readonly atNs?: bigint;
}

export type Sightings = Sighting | readonly Sighting[] | undefined;

/** A message, and the session before it. */
export interface MessageLook {
  readonly model: SessionModel;
  readonly message: SessionMessage;
  /** For an answer: what it answers. */
  readonly pairing: Pairing | undefined;
}

/** A ring that a message makes run: started and enabled. The model has the message in it already. */
export interface RunLook {
  readonly model: SessionModel;
  readonly message: SessionMessage;
  readonly ring: RingModel;
}

/** A packet that a ring of a vsock device carried, where rings are followed. */
export interface PacketLook {
  readonly model: SessionModel;
  readonly packet: RingPacket;
  readonly header: PacketHeader;
}

/** What a ring holds against its rules, where rings are followed. */
export interface FaultLook {
  readonly fault: RingFault;
}

/** Time has passed without what was due. */
export interface TimeLook {
  readonly model: SessionModel;
  readonly nowNs: bigint;
  /** Requests of both channels that wait for their answers. */
  readonly open: readonly OpenRequest[];
}

export interface EndLook {
  readonly model: SessionModel;
  readonly by: Ender;
}

export interface Lint {
  readonly severity: Severity;
  /** A sentence without its full stop: what is wrong. */
  readonly title: string;
  /** Document and section, or program and function. */
  readonly rule: string;
  /** What it leads to, and with whom. */
  readonly why: string;
  /** What to do about it, and who has to. */
  readonly todo: string;
  readonly onMessage?: (look: MessageLook) => Sightings;
  readonly onRun?: (look: RunLook) => Sightings;
  readonly onPacket?: (look: PacketLook) => Sightings;
  readonly onFault?: (look: FaultLook) => Sightings;
  readonly onTime?: (look: TimeLook) => Sightings;
  readonly onEnd?: (look: EndLook) => Sightings;
}

export type LintTable = Readonly<Record<string, Lint>>;

const SECOND_NS = 1_000_000_000n;

/** After the rings run: by then every front-end that translates has sent its first UPDATE. QEMU takes under 1 ms. */
export const SILENCE_NS = SECOND_NS;
/** How long a MISS may wait: QEMU answers within one turn of its loop. */
export const MISS_NS = SECOND_NS;
/** How long an answer may take. A memory table of many GiB that is mapped and touched takes seconds. */
export const REPLY_NS = 10n * SECOND_NS;

/** The payload of a request with this name; undefined for any other message. */
export function requestOf({ message }: MessageLook, name: string): SessionMessage["payload"] {
  return !message.isReply && message.name === name ? message.payload : undefined;
}

/** The same for an answer. */
export function replyOf({ message }: MessageLook, name: string): SessionMessage["payload"] {
  return message.isReply && message.name === name ? message.payload : undefined;
}

/** The number that a message carries, if that is all it carries. */
export function wordOf(payload: SessionMessage["payload"]): bigint | undefined {
  return payload?.kind === "u64" ? payload.value : undefined;
}

/** Whether rings can be judged by what came before them: nothing of the session was missed. */
export function isJudged({ model }: RunLook): boolean {
  return !model.hasGap && model.isFromStart;
}
