/**
 * What one session was: the offer, every message both ways, and how it ended. Data that facts.ts reads; nothing here
 * draws conclusions.
 */
import type { Message } from "../vhost/wire/index.js";
import type { Play } from "./offers.js";

export interface Entry {
  /** Since the session's connection came. */
  readonly atMs: number;
  readonly from: "front-end" | "back-end";
  /** Which socket: the session's own, or the back-end channel. */
  readonly on: "socket" | "channel";
  readonly message: Message;
  /** One line, flags decoded. */
  readonly text: string;
}

/** What the scripted back-end did beside answering, and what it met. */
export type Mark =
  /** The start is over: the front-end had nothing more to say. From here on rings are touched and MISSes sent. */
  | "serving"
  /** A packet was put into the guest's receive ring that the guest has to answer. */
  | "asked-guest"
  /** The guest's answer came through its transmit ring. */
  | "guest-answered"
  /** A MISS was sent that a front-end without translation cannot expect. */
  | "sent-unexpected-miss"
  /** The front-end closed the back-end channel. */
  | "channel-closed";

export type Outcome =
  /** The rings run; whatever was to be tried was tried. */
  | "started"
  /** As far as the session was to go. */
  | "ended-as-planned"
  /** It left before any ring ran. */
  | "left"
  /** It stayed, and did not start the rings within the time given. */
  | "silent"
  /** What it sent cannot be followed. */
  | "malformed"
  /** Nobody connected. */
  | "absent";

export interface Transcript {
  readonly entries: readonly Entry[];
  /** With the number of entries that came before. */
  readonly marks: readonly { readonly mark: Mark; readonly after: number }[];
}

export interface SessionRecord extends Play {
  /** From 1. */
  readonly number: number;
  readonly transcript: Transcript;
  readonly outcome: Outcome;
  /** What its program said last, or how it ended; what is wrong with what it sent. */
  readonly says: string | undefined;
  /** Its connection ended while rings ran. */
  readonly diedServing: boolean;
}

export const EMPTY_TRANSCRIPT: Transcript = { entries: [], marks: [] };
