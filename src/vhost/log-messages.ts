/**
 * The messages of a migration's dirty log (vhost-user, Migration): where the log is. What turns it on is SET_FEATURES
 * with LOG_ALL and, for each used ring, SET_VRING_ADDR with its flag.
 */
import { DONE, type Handler, refused, replyU64 } from "./answer.js";

/** "VHOST_USER_SET_LOG_BASE … the log memory fd is provided in the ancillary data". */
export const setLogBase: Handler = (session, { payload }, fds) => {
  if (payload.kind !== "log")
    return refused(
      "it names a user address, which only a vhost within the VMM's kernel can reach: LOG_SHMFD is needed",
    );
  const fd = fds.take();
  if (fd === undefined) return refused("no descriptor came with it");
  const problem = session.logging.setBase(fd, payload.offset, payload.size);
  return problem === undefined ? replyU64(0n) : refused(problem);
};

export const setLogFd: Handler = (session, _message, fds) => {
  const fd = fds.takeBell();
  if (typeof fd === "string") return refused(fd);
  session.logging.bell.put(fd);
  return DONE;
};
