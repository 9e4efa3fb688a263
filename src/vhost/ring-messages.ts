/**
 * The messages that set up and run rings (vhost-user, Ring states; SET_VRING_*, GET_VRING_BASE). Each changes the
 * RingState; whether a ring then starts or stops is settled by the session afterwards.
 */

import { signalEventfd } from "../linux/eventfd.js";
import { isQueueSize } from "../virtqueue/layout.js";
import { isPackedQueueSize } from "../virtqueue/packed-layout.js";
import { type Answer, DONE, type Handler, refused, reply, taking } from "./answer.js";
import type { ReceivedFds } from "./descriptors.js";
import { packedBaseOf } from "./ring-queue.js";
import type { RingState } from "./ring-state.js";
import type { SessionCore } from "./session-core.js";
import { decodeSplitBase, type PayloadKind, type PayloadOf, VRING_FLAG_LOG } from "./wire/index.js";

/** A handler of a message that names a ring, which has to exist. */
function onRing<K extends PayloadKind>(
  kind: K,
  handle: (session: SessionCore, ring: RingState, payload: PayloadOf<K>, fds: ReceivedFds) => Answer,
): Handler {
  return taking(kind, (session, payload, fds) => {
    const { index } = payload as unknown as { index: number };
    const ring = session.rings.all[index];
    if (ring === undefined)
      return refused(`there is no queue ${index}; the last one is ${session.rings.all.length - 1}`);
    return handle(session, ring, payload, fds);
  });
}

const RUNS = "the ring is running: stop it with GET_VRING_BASE first";

export const setVringNum = onRing("vringState", (session, ring, { num }) => {
  if (ring.running !== undefined) return refused(RUNS);
  if (!session.isPacked && !isQueueSize(num))
    return refused(`${num} is no queue size: a power of two up to 32768`);
  if (!isPackedQueueSize(num)) return refused(`${num} is no queue size of a packed ring: 1 to 32768`);
  if (num > session.policy.queueSizeMax) {
    return refused(
      `a ring of ${num} descriptors; this device takes ${session.policy.queueSizeMax} (queue-size)`,
    );
  }
  ring.size = num;
  ring.broken = false;
  return DONE;
});

export const setVringBase = onRing("vringState", (session, ring, { num }) => {
  if (ring.running !== undefined) return refused(RUNS);
  ring.base = session.isPacked ? packedBaseOf(ring, num) : num;
  ring.broken = false;
  return DONE;
});

/**
 * Allowed while the ring runs: it goes on at its position, with the new addresses. A migration turns logging of the
 * used ring on and off by it, with the addresses as they were.
 */
export const setVringAddr = onRing("vringAddr", (session, ring, { desc, avail, used, flags, log }) => {
  ring.logAddress = (flags & VRING_FLAG_LOG) === 0 ? undefined : log;
  const before = ring.addresses;
  if (before !== undefined && before.desc === desc && before.avail === avail && before.used === used) {
    ring.broken = false;
    session.ringLogsChanged();
    return DONE;
  }
  session.rings.stop(ring, "its addresses were set anew");
  ring.addresses = { desc, avail, used };
  ring.voided = undefined;
  ring.held = false;
  ring.broken = false;
  return DONE;
});

export const setVringEnable = onRing("vringState", (session, ring, { num }) => {
  if (num > 1) return refused(`enable ${num}: 1 enables, 0 disables`);
  if (num === 0) session.rings.stop(ring, "it was disabled");
  ring.enabled = num === 1;
  return DONE;
});

/** Stops the ring, whatever state it is in, and tells where it can be taken up again. */
export const getVringBase = onRing("vringState", (session, ring, { index }) => {
  session.rings.stop(ring, "the front-end asked for its position");
  ring.started = false;
  ring.broken = false;
  // The next start comes with a kick eventfd of its own. libvhost-user and rust-vmm close it here too.
  ring.kick.close();
  // A ring that never ran is where it was put, which SET_VRING_BASE may have said with bits that mean nothing.
  return reply({ kind: "vringState", index, num: session.isPacked ? ring.base : decodeSplitBase(ring.base) });
});

/** The bell of a message, -1 if it came without ("Bit 8 is the invalid FD flag"), or why it cannot be taken. */
function bellOf({ noFd }: PayloadOf<"vringFd">, fds: ReceivedFds): number | string {
  return noFd ? -1 : fds.takeBell();
}

/** Starts the ring (see ring-state.ts); without an eventfd it is polled. */
export const setVringKick = onRing("vringFd", (session, ring, payload, fds) => {
  const fd = payload.noFd ? -1 : fds.takeEventfd();
  if (typeof fd === "string") return refused(fd);
  session.rings.stop(ring, "its kick eventfd was replaced");
  ring.kick.put(fd);
  ring.started = true;
  ring.broken = false;
  return DONE;
});

export const setVringCall = onRing("vringFd", (_session, ring, payload, fds) => {
  const fd = bellOf(payload, fds);
  if (typeof fd === "string") return refused(fd);
  ring.call.put(fd);
  // A notification may have gone to the eventfd before this one, which nobody listens to any more (QEMU masks and
  // unmasks interrupts by this message). A spurious one costs nothing; libvhost-user sends it every time.
  if (ring.everRan && fd >= 0) signalEventfd(fd);
  return DONE;
});

export const setVringErr = onRing("vringFd", (_session, ring, payload, fds) => {
  const fd = bellOf(payload, fds);
  if (typeof fd === "string") return refused(fd);
  ring.error.put(fd);
  return DONE;
});
