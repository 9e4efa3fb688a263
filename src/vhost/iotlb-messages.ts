/**
 * IOTLB_MSG and the channel on which the back-end asks for mappings. An IOTLB_MSG is always answered with a u64, even
 * where REPLY_ACK was not negotiated (QEMU blocks until it comes), and answering it is a barrier: the data plane runs
 * in this thread between messages and resolves every address anew, so once an INVALIDATE is answered no system call
 * touches the page any more.
 */

import { MemoryError } from "../memory/errors.js";
import { DONE, fatal, type Handler, refused, replyU64, taking } from "./answer.js";
import type { SessionCore } from "./session-core.js";
import { describeIotlb, IOTLB_TYPE, type IotlbMessage } from "./wire/index.js";

export const iotlbMessage = taking("iotlb", (session, message) => {
  const { type } = message;
  if (type !== IOTLB_TYPE.UPDATE && type !== IOTLB_TYPE.INVALIDATE) {
    return refused(`${describeIotlb(message)}: a front-end sends UPDATE and INVALIDATE`);
  }
  const verdict = session.translation.iotlbMessage();
  if (verdict.action === "refuse") {
    session.log.log({
      event: "iotlb-refused",
      message: `${describeIotlb(message)} contradicts the translation mode (${verdict.reason})`,
      fields: { mode: session.translation.state, reason: verdict.reason },
    });
    const rule = `IOTLB_MSG while translation is ${session.translation.state} (${verdict.reason})`;
    return verdict.closes ? fatal(`${rule}: what the rings were read by is wrong`) : refused(rule);
  }
  try {
    change(session, message);
    return replyU64(0n);
  } catch (error) {
    if (error instanceof MemoryError) return refused(error.message);
    throw error;
  }
});

/** INVALIDATE has garbage in its user address and permission on QEMU 7.2; neither is looked at. */
function change(session: SessionCore, { type, iova, size, userAddress, perm }: IotlbMessage): void {
  if (type === IOTLB_TYPE.INVALIDATE) {
    session.link.iotlb.invalidate(iova, size);
  } else {
    session.link.update(iova, size, userAddress, perm);
    session.memoryCame();
  }
}

export const setBackendReqFd: Handler = (session, _message, fds) => {
  const fd = fds.take();
  if (fd === undefined) return refused("no descriptor came with it");
  const problem = session.link.openChannel(fd);
  return problem === undefined ? DONE : refused(problem);
};
