/**
 * What the switch needs of whatever is behind the host's ports, so that it knows no path and no protocol.
 */
import { errno, errnoName } from "../linux/errors.js";

/** What is behind the host's ports. */
export interface HostEndpoints {
  /**
   * Connects to whatever serves `hostPort`, for sockets of `type` (`SocketType`), on behalf of `guestPort`: a connected, non-blocking descriptor
   * of that type, which the caller then owns; -EAGAIN if it should be tried again shortly; another `-errno` if nobody
   * serves it, -EPROTOTYPE if sockets of another type are served there.
   */
  connect(hostPort: number, type: number, guestPort: number): number;

  /** Why `connect` has answered -EAGAIN until the time was up, if it is not the backlog of a listener. */
  whyPending?(hostPort: number): string | undefined;
}

/** Where a Unix socket listens, that is all that -EAGAIN can mean. */
export const BACKLOG_STAYED_FULL = "the backlog of its listener stayed full";

/** Why `connect` failed with `-error`, in words for the log. */
export function connectProblem(error: number): string {
  if (error === errno.ENOENT) return "nothing listens there";
  if (error === errno.ECONNREFUSED) return "its listener is gone";
  if (error === errno.EPROTOTYPE) return "its listener is of another type (stream or seqpacket)";
  if (error === errno.EMFILE || error === errno.ENFILE) return "this process can open no more descriptors";
  if (error === errno.EBUSY) return "as many of its commands run as may";
  return `connecting failed with ${errnoName(error)}`;
}
