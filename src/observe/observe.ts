/**
 * A whole observation: one session after the other, each with an offer of its own, and what they say together. Must not
 * know the command line or how anything is printed.
 */
import type { EventLoop } from "../linux/event-loop.js";
import { factsOf, hasStarted, type SessionFacts } from "./facts.js";
import { type OfferId, type Play, playsFor } from "./offers.js";
import { playSession } from "./play-session.js";

export interface ObserveOptions {
  /** A listening socket; it stays the caller's. */
  readonly listener: number;
  readonly loop: EventLoop;
  /** Starts the front-end; without it, somebody else does, once for each session. */
  readonly command: string | undefined;
  /** Starts it on the same machine with a vIOMMU in front of the device. */
  readonly viommuCommand: string | undefined;
  readonly timeoutMs: number;
  /** Ends the observation; its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Before each session. */
  readonly onBegin?: (play: Play, number: number, of: number) => void;
  /** After each. */
  readonly onEnd?: (facts: SessionFacts) => void;
}

/** What ends an observation before its end: nothing could be learned from going on. */
export class ObservationError extends Error {
  override readonly name = "ObservationError";
}

export async function observe(options: ObserveOptions): Promise<SessionFacts[]> {
  const { command, viommuCommand, onBegin, onEnd } = options;
  const machines = { viommu: viommuCommand !== undefined };
  const all: SessionFacts[] = [];
  const left = new Set<OfferId>();
  for (;;) {
    const plays = playsFor(machines, left);
    const number = all.length + 1;
    const play = plays[all.length];
    if (play === undefined) break;
    onBegin?.(play, number, plays.length);
    const record = await playSession({
      ...play,
      number,
      command: play.machine === "viommu" ? viommuCommand : command,
      listener: options.listener,
      loop: options.loop,
      timeoutMs: options.timeoutMs,
      signal: options.signal,
    });
    const facts = factsOf(record);
    all.push(facts);
    if (record.outcome === "left") left.add(record.offer.id);
    onEnd?.(facts);
    refuseToGoOn(facts);
  }
  if (!all.some(hasStarted)) {
    const words = all.map(({ record }) => record.says).find((says) => says !== undefined);
    throw new ObservationError(
      `in none of ${all.length} sessions did the front-end start its rings${words === undefined ? "" : `: ${words}`}`,
    );
  }
  return all;
}

/** A front-end that nobody can start, or that speaks something else, is the same in every session. */
function refuseToGoOn({ record: { number, outcome, says } }: SessionFacts): void {
  if (outcome === "absent") throw new ObservationError(`no front-end came for session ${number}: ${says}`);
  if (outcome === "malformed") {
    throw new ObservationError(`what connected for session ${number} does not speak vhost-user: ${says}`);
  }
}
