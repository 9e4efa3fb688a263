/**
 * The messages that save and load a device's state (vhost-user, Migrating back-end state). The device decides what its
 * state is; device-state.ts moves it.
 */
import { type Handler, refused, replyU64, taking } from "./answer.js";
import type { SessionCore } from "./session-core.js";

/** The `direction` of SET_DEVICE_STATE_FD, and its only `phase` so far. Fixed by the document. */
const DIRECTION = { save: 0, load: 1 } as const;
const PHASE_STOPPED = 0;
/** The reply: bits 0 to 7 are an error, and bit 8 says that no descriptor comes back. */
const NO_FD = 0x100n;

export const setDeviceStateFd = taking("deviceState", (session, { direction, phase }, fds) => {
  const problem = problemOf(session, direction, phase);
  if (problem !== undefined) return refused(problem);
  const fd = fds.take();
  if (fd === undefined) return refused("no descriptor came with it");
  session.transferState(fd, direction === DIRECTION.save ? "save" : "load");
  return replyU64(NO_FD);
});

/** "while the device is suspended", which it is when every ring is stopped. */
function problemOf(session: SessionCore, direction: number, phase: number): string | undefined {
  if (direction !== DIRECTION.save && direction !== DIRECTION.load)
    return `there is no direction ${direction}`;
  if (phase !== PHASE_STOPPED) return `there is no phase ${phase}`;
  if (session.rings.anyRunning) return "a ring runs: the state is moved while all are stopped";
  return undefined;
}

/** What became of the transfer: 0 if all of it has been written or taken in. */
export const checkDeviceState: Handler = (session) => {
  const status = session.checkState();
  if (status === undefined) return refused("no state was moved");
  if (status.state === "running") return refused("the state has not been moved to its end");
  return status.state === "failed" ? refused(`the state was not moved: ${status.why}`) : replyU64(0n);
};
