/**
 * The time of a cell with a real program in it: the machine's own. Nobody can see that another process is done, so a
 * cell is quiet when nothing has happened for a while.
 */
import { setImmediate as nodeTurn } from "node:timers/promises";
import type { Loops, RunEnd } from "../../src/compat/two-loops.js";
import { EventLoop } from "../../src/linux/event-loop.js";

/** Many times what the program takes for anything. */
const QUIET_MS = 2000;

export class RealLoops implements Loops {
  readonly device = new EventLoop();
  readonly guest = new EventLoop();
  readonly #beganMs = performance.now();

  get nowMs(): number {
    return performance.now() - this.#beganMs;
  }

  pumpDevice(timeoutMs: number): void {
    this.device.turn(timeoutMs);
  }

  async run(serve: () => number, isDone: () => boolean, mostMs: number): Promise<RunEnd> {
    const endMs = this.nowMs + mostMs;
    let stirredMs = this.nowMs;
    for (;;) {
      // Promises, and the end of the program, are Node's to tell.
      await nodeTurn();
      if (isDone()) return "done";
      const hasServed = serve() > 0;
      const hasTurned = this.device.turn(0);
      if (this.guest.turn(hasTurned || hasServed ? 0 : 1) || hasTurned || hasServed) stirredMs = this.nowMs;
      if (this.nowMs > endMs) return "out-of-time";
      if (this.nowMs - stirredMs > QUIET_MS) return "quiet";
    }
  }

  close(): void {
    this.device.close();
    this.guest.close();
  }
}
