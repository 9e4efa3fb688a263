/**
 * The thread that looks at rings: woken by messages of the session, by the rings' own eventfds, and by a timer that is
 * fast while something moves. It may be late, and then says what it missed; nobody ever waits for it.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { EventLoop } from "../../linux/event-loop.js";
import { wallClock } from "../relay/clock.js";
import { FollowedSession } from "./followed-session.js";
import { type FromRings, type Passed, type RingReport, type RingsStart, weightOf } from "./ring-reports.js";
import type { SessionTraffic } from "./traffic.js";

/** How long reports are gathered. */
const POST_MS = 5;
/**
 * How often rings are looked at that no eventfd tells of: KVM takes a call's signal before anybody else sees it, and a
 * device that polls gets no kicks.
 */
const FASTEST_MS = 1;
const SLOWEST_MS = 32;
/** By `weightOf`: 64 MiB of payload, or as many packets without. Beyond that packets are counted as unseen. */
const MOST_UNDEALT = 65_536;

type Port = NonNullable<typeof parentPort>;

class RingsLoop {
  readonly #start: RingsStart;
  readonly #port: Port;
  readonly #loop: EventLoop;
  readonly #clock = wallClock();
  readonly #sessions = new Map<number, FollowedSession>();
  readonly #posting;
  readonly #polling;
  #pollMs = FASTEST_MS;
  #reports: RingReport[] = [];
  #posted = 0;

  constructor(start: RingsStart, port: Port) {
    this.#start = start;
    this.#port = port;
    this.#loop = new EventLoop(start.wakeFd);
    this.#posting = this.#loop.timerFor({ onTimer: () => this.#flush() });
    this.#polling = this.#loop.timerFor({ onTimer: () => this.#poll() });
  }

  run(): void {
    this.#port.postMessage("ready" satisfies FromRings);
    try {
      this.#loop.run(() => {
        this.#takePassed();
        this.#pollSoon();
        if (receiveMessageOnPort(this.#port) !== undefined) this.#loop.stop();
      });
      this.#takePassed();
      for (const session of [...this.#sessions.keys()]) this.#end(session);
      this.#flush();
    } finally {
      this.#loop.close();
    }
  }

  /** What has been said comes first: it may be that a ring's memory is something else by now. */
  #takePassed(): boolean {
    const { port } = this.#start;
    for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
      for (const passed of got.message as readonly Passed[]) {
        if (passed.kind === "ended") this.#end(passed.session);
        else this.#followed(passed.session).message(passed.frame, passed.fds);
      }
    }
    const isMoved = this.#look();
    if (isMoved) this.#pollSoon();
    return isMoved;
  }

  #followed(session: number): FollowedSession {
    const known = this.#sessions.get(session);
    if (known !== undefined) return known;
    const { deviceType, mostPayloadBytes } = this.#start;
    const followed = new FollowedSession({
      loop: this.#loop,
      deviceType,
      mostPayloadBytes,
      nowNs: () => this.#clock.nowNs(),
      hasRoom: () => this.#hasRoom(),
      packet: (packet) => this.#report({ kind: "packet", session, packet }),
      remark: (text) =>
        this.#report({
          kind: "remark",
          session,
          remark: { timeNs: this.#clock.nowNs(), text, isGap: false },
        }),
      fault: (fault) => this.#report({ kind: "fault", session, fault }),
      rang: () => this.#takePassed(),
    });
    this.#sessions.set(session, followed);
    return followed;
  }

  #end(session: number): void {
    const followed = this.#sessions.get(session);
    followed?.close();
    this.#sessions.delete(session);
    const traffic: SessionTraffic = followed?.traffic ?? new Map();
    this.#report({ kind: "ended", session, traffic });
  }

  #look(): boolean {
    let isMoved = false;
    for (const session of this.#sessions.values()) if (session.look()) isMoved = true;
    return isMoved;
  }

  #poll(): void {
    const isMoved = this.#takePassed();
    this.#pollMs = isMoved ? FASTEST_MS : Math.min(2 * this.#pollMs, SLOWEST_MS);
    if (this.#sessions.size > 0) this.#polling.start(this.#pollMs);
  }

  #pollSoon(): void {
    if (this.#sessions.size === 0 || (this.#polling.isRunning && this.#pollMs === FASTEST_MS)) return;
    this.#pollMs = FASTEST_MS;
    this.#polling.start(FASTEST_MS);
  }

  #hasRoom(): boolean {
    return ((this.#posted - Atomics.load(this.#start.seen, 0)) | 0) < MOST_UNDEALT;
  }

  #report(report: RingReport): void {
    this.#posted = (this.#posted + weightOf(report)) | 0;
    this.#reports.push(report);
    if (!this.#posting.isRunning) this.#posting.start(POST_MS);
  }

  #flush(): void {
    if (this.#reports.length > 0) this.#port.postMessage(this.#reports satisfies FromRings);
    this.#reports = [];
  }
}

if (parentPort !== null) new RingsLoop(workerData as RingsStart, parentPort).run();
