/**
 * Turns an event loop of ours inside Node's until something holds or a time is over: sockets and eventfds are ours,
 * child processes and signals Node's.
 */
import { setImmediate as nodeTurn } from "node:timers/promises";
import type { EventLoop } from "../linux/event-loop.js";

/** How long Node's loop waits at most when ours has nothing to do. */
const TURN_MS = 2;

/** True as soon as `condition` holds, false if it does not within `limitMs`. Throws the signal's reason. */
export async function until(
  loop: EventLoop,
  condition: () => boolean,
  limitMs: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const deadlineMs = performance.now() + limitMs;
  while (!condition()) {
    signal?.throwIfAborted();
    if (performance.now() >= deadlineMs) return false;
    loop.turn(TURN_MS);
    await nodeTurn();
  }
  return true;
}
