/**
 * The messages of inflight tracking: the back-end makes a file, the front-end keeps it and gives it to whichever
 * back-end serves the rings next.
 */
import { F, has } from "../virtio/index.js";
import { isQueueSize } from "../virtqueue/layout.js";
import { DONE, refused, taking } from "./answer.js";
import { createInflightFile, InflightFile } from "./inflight.js";

/** A front-end (QEMU) takes a region of no bytes for "there is none". Of packed rings nothing is noted. */
export const getInflightFd = taking("inflight", (session, payload) => {
  const { queueCount, queueSize } = payload;
  const most = session.policy.queueSizeMax;
  if (queueCount > session.rings.all.length || !isQueueSize(queueSize) || queueSize > most)
    return refused(`${queueCount} queues of ${queueSize}: at most ${session.rings.all.length} of ${most}`);
  if (has(session.features, F.RING_PACKED))
    return { kind: "reply", payload: { ...payload, mmapSize: 0n, mmapOffset: 0n } };
  try {
    const { fd, bytes } = createInflightFile(queueCount, queueSize, session.device.tableBytes ?? 0);
    return { kind: "reply", payload: { ...payload, mmapSize: BigInt(bytes), mmapOffset: 0n }, fd };
  } catch (error) {
    return refused((error as Error).message);
  }
});

export const setInflightFd = taking(
  "inflight",
  (session, { queueCount, queueSize, mmapSize, mmapOffset }, fds) => {
    if (session.rings.anyRunning) return refused("a ring runs: stop it with GET_VRING_BASE first");
    const fd = fds.take();
    if (fd === undefined) return refused("no descriptor came with it");
    try {
      session.useInflight(new InflightFile(fd, mmapOffset, mmapSize, queueCount, queueSize));
      return DONE;
    } catch (error) {
      return refused((error as Error).message);
    }
  },
);
