/**
 * Turns an event loop of ours inside Node's: promises, sockets and timers of Node go on between two turns. For
 * processes that are not a data plane; while nothing happens, each of the two loops waits for the other a moment.
 */
import type { EventLoop } from "../linux/event-loop.js";

/** How long Node's loop has to wait at most when ours has nothing to do. */
const TURN_MS = 1;

export class LoopPump {
  #running = true;

  constructor(loop: EventLoop) {
    const turn = () => {
      if (!this.#running) return;
      loop.turn(TURN_MS);
      setImmediate(turn);
    };
    setImmediate(turn);
  }

  stop(): void {
    this.#running = false;
  }
}
