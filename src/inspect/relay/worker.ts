/**
 * The thread of the relay: an event loop that does nothing but pass messages on and report them, so that a slow terminal
 * or a long decoding never stands in a session's way. Talks to the main thread in the messages below.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { EventLoop } from "../../linux/event-loop.js";
import type { FrameObserver, Remark, SessionEnd, SessionFrame, SessionStart } from "../frame.js";
import { type Repairs, repairing } from "../repair/repairs.js";
import type { RingsEnd } from "../rings/ring-reports.js";
import { RingTap } from "../rings/tap.js";
import { wallClock } from "./clock.js";
import { Relay } from "./relay.js";

export interface RelayStart {
  readonly listener: number;
  readonly connectPath: string;
  readonly connectTimeoutMs: number;
  readonly comes: "front-end" | "back-end";
  readonly once: boolean;
  readonly repairs: Repairs;
  /** Who follows the rings, if somebody does. */
  readonly rings: RingsEnd | undefined;
  /** Written by the main thread to end the relay, or to say that it has caught up. It stays the main thread's. */
  readonly wakeFd: number;
  /** Reports that the main thread has dealt with, counted by it; shared. */
  readonly seen: Int32Array;
}

export type Report =
  | { readonly kind: "begun"; readonly start: SessionStart }
  | { readonly kind: "frame"; readonly session: number; readonly frame: SessionFrame }
  | { readonly kind: "remark"; readonly session: number; readonly remark: Remark }
  | { readonly kind: "ended"; readonly session: number; readonly end: SessionEnd }
  /** Nothing is on its way that happened before. */
  | { readonly kind: "time"; readonly nowNs: bigint };

/** Ready, or what has happened since the last time, in its order. */
export type FromRelay = "ready" | readonly Report[];

export type ToRelay = { readonly kind: "close"; readonly reason: string };

/** Reports on their way to the main thread. With more the sessions wait: what is not seen would not be judged. */
export const MOST_UNSEEN = 65_536;
/** How long reports are gathered. Nobody who reads along notices. */
const POST_MS = 5;
/** How often time is told. */
const TICK_MS = 250;

function run(start: RelayStart, port: NonNullable<typeof parentPort>): void {
  const loop = new EventLoop(start.wakeFd);
  const clock = wallClock();
  let reported = 0;
  let waiting: Report[] = [];
  const unseen = (): number => (reported - Atomics.load(start.seen, 0)) | 0;
  const flush = (): void => {
    if (waiting.length > 0) port.postMessage(waiting);
    waiting = [];
  };
  const posting = loop.timerFor({ onTimer: flush });
  // Not at once: posting takes longer than passing a message on, and somebody waits for that.
  const post = (report: Report): void => {
    reported = (reported + 1) | 0;
    waiting.push(report);
    if (!posting.isRunning) posting.start(POST_MS);
    if (unseen() > MOST_UNSEEN) relay.pause();
  };
  const observer: FrameObserver = {
    begun: (begin) => post({ kind: "begun", start: begin }),
    frame: (session, frame) => post({ kind: "frame", session, frame }),
    remark: (session, remark) => post({ kind: "remark", session, remark }),
    ended: (session, end) => post({ kind: "ended", session, end }),
  };
  const tap =
    start.rings &&
    new RingTap(start.rings, (session, text) =>
      observer.remark(session, { timeNs: clock.nowNs(), text, isGap: false }),
    );
  if (tap !== undefined) loop.afterEvents(() => tap.flush());
  const relay = new Relay({ ...start, loop, observer, makeRewriter: repairing(start.repairs), tap });
  const tick = loop.timerFor({
    onTimer() {
      if (unseen() < MOST_UNSEEN / 2) relay.resume();
      post({ kind: "time", nowNs: clock.nowNs() });
      tick.start(TICK_MS);
    },
  });
  tick.start(TICK_MS);
  port.postMessage("ready" satisfies FromRelay);
  try {
    loop.run(() => {
      for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
        const { reason } = got.message as ToRelay;
        relay.close(reason);
        tap?.flush();
        flush();
        loop.stop();
      }
    });
  } finally {
    loop.close();
  }
}

if (parentPort !== null) run(workerData as RelayStart, parentPort);
