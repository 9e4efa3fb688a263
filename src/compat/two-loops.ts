/**
 * The time and the turns of one cell: an event loop for the device's side, one for the guest's and the VMM's, and one
 * clock that moves only when neither has anything left to do. So a timeout costs nothing, nothing depends on how fast
 * this machine is, and "nobody will ever do anything again" can be seen. Must not know what runs on the loops.
 */
import { EventLoop } from "../linux/event-loop.js";
import { Timers } from "../linux/timers.js";

/** How a run ended. */
export type RunEnd =
  /** What was waited for holds. */
  | "done"
  /** Neither loop has an event or a timer left: nothing will ever happen again. */
  | "quiet"
  /** The virtual time is used up: somebody goes on trying. */
  | "out-of-time";

/** The device's side threw, which is a mistake of this program: no profile says so. */
export class DeviceThrew extends Error {
  override readonly name = "DeviceThrew";
}

/** Enough turns at one moment to say that the two go round in circles. Our choice: honest cells need below 1000. */
const MOST_TURNS_AT_ONCE = 20_000;

/** What a cell needs of its time and its turns. */
export interface Loops {
  /** Milliseconds since the cell began. */
  readonly nowMs: number;
  readonly device: EventLoop;
  readonly guest: EventLoop;
  /** For a VMM that waits for its device: one turn of the device's loop alone. */
  pumpDevice(timeoutMs: number): void;
  /** Turns both until `isDone`, for `mostMs` at most; `serve` is the VMM's part, and returns how much it did. */
  run(serve: () => number, isDone: () => boolean, mostMs: number): Promise<RunEnd>;
  close(): void;
}

export class TwoLoops implements Loops {
  nowMs = 0;
  readonly device: EventLoop;
  readonly guest: EventLoop;

  constructor() {
    const now = (): number => this.nowMs;
    this.device = new EventLoop(undefined, new Timers(now));
    this.guest = new EventLoop(undefined, new Timers(now));
  }

  /** For a VMM that waits for its device: one turn of the device's loop alone, or a step of the clock. */
  pumpDevice(timeoutMs: number): void {
    if (this.#turnDevice()) return;
    const next = this.device.timers.msUntilNext();
    this.nowMs += next < 0 ? timeoutMs : Math.min(next, timeoutMs);
  }

  /**
   * Turns both loops until `isDone`, for `mostMs` of virtual time at most. `serve` is the VMM's part: it returns how
   * much it did. Promises are settled between the turns.
   */
  async run(serve: () => number, isDone: () => boolean, mostMs: number): Promise<RunEnd> {
    const endMs = this.nowMs + mostMs;
    for (let turns = 0; turns < MOST_TURNS_AT_ONCE; turns++) {
      await settledPromises();
      if (isDone()) return "done";
      const hasServed = serve() > 0;
      const hasTurned = this.#turnDevice();
      if (this.guest.turn(0) || hasTurned || hasServed) continue;
      const stepMs = this.#msUntilNext();
      if (stepMs < 0) return "quiet";
      if (this.nowMs + stepMs > endMs) return "out-of-time";
      this.nowMs += stepMs;
      turns = 0;
    }
    return "out-of-time";
  }

  #turnDevice(): boolean {
    try {
      return this.device.turn(0);
    } catch (cause) {
      throw new DeviceThrew(cause instanceof Error ? cause.message : String(cause), { cause });
    }
  }

  #msUntilNext(): number {
    const device = this.device.timers.msUntilNext();
    const guest = this.guest.timers.msUntilNext();
    if (device < 0 || guest < 0) return Math.max(device, guest);
    return Math.min(device, guest);
  }

  close(): void {
    this.device.close();
    this.guest.close();
  }
}

/** What the guest's program and driver have put off is done. */
function settledPromises(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
