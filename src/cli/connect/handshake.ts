/**
 * A host program's side of the hybrid scheme: connects to the Unix socket, asks for a guest port, and takes the answer,
 * not a byte more. Every way in which that can fail is told with what to do about it.
 */
import { closeSync } from "node:fs";
import { EPOLLIN, Epoll } from "../../linux/epoll.js";
import { errno, errnoName } from "../../linux/errors.js";
import { connectUnix, createSocket, peekText, sendText, skipBytes } from "../../linux/unix-socket.js";

/** "OK 4294967295\n" and some more: an answer that is longer is none. */
const LONGEST_ANSWER_BYTES = 32;
/** How often a listener whose backlog is full is tried again; a Unix socket tells nobody when there is room. */
const RETRY_MS = 10;

export type Connected =
  | { readonly kind: "connected"; readonly fd: number; readonly hostPort: number }
  | { readonly kind: "failed"; readonly reason: string };

/** Blocks the thread for `timeoutMs` at most. The descriptor is connected and non-blocking, and the caller's. */
export function connectToGuest(path: string, port: number, timeoutMs: number): Connected {
  const untilMs = performance.now() + timeoutMs;
  const fd = createSocket();
  const outcome = connectedBefore(fd, path, untilMs) ?? answerTo(fd, path, port, untilMs, timeoutMs);
  if (typeof outcome === "number") return { kind: "connected", fd, hostPort: outcome };
  closeSync(fd);
  return { kind: "failed", reason: outcome };
}

/** Connects: why not, if it fails. */
function connectedBefore(fd: number, path: string, untilMs: number): string | undefined {
  for (;;) {
    const result = connectUnix(fd, path);
    if (result === 0) return undefined;
    if (result !== -errno.EAGAIN) return connectProblem(path, -result);
    if (performance.now() >= untilMs) return `${path} has a full backlog: its device accepts nobody`;
    pause(RETRY_MS);
  }
}

function connectProblem(path: string, error: number): string {
  switch (error) {
    case errno.ENOENT:
      return `${path} does not exist; give the path that the device has as its --uds-path, and see that it runs`;
    case errno.ECONNREFUSED:
      return `nobody listens at ${path} any more; start the device again`;
    case errno.EACCES:
    case errno.EPERM:
      return `${path} may not be connected to by this user; the device's --uds-mode and --uds-group say who may`;
    case errno.EPROTOTYPE:
      return `${path} is a socket of another type; give the device's --uds-path, which is a stream socket`;
    case errno.ENOTDIR:
      return `${path} leads through something that is no directory; give the device's --uds-path`;
    default:
      return `connecting to ${path} failed with ${errnoName(error)}`;
  }
}

/** Asks for the port: the assigned host port, or why there is none. */
function answerTo(
  fd: number,
  path: string,
  port: number,
  untilMs: number,
  timeoutMs: number,
): number | string {
  const refused =
    `no connection to port ${port} of the guest: the device closed it without an answer. Nothing listens there, no ` +
    "guest is running, or a limit was reached; the device's log says which (host-connect-failed)";
  if (sendText(fd, `CONNECT ${port}\n`) < 0) return refused;
  const epoll = new Epoll();
  epoll.add(fd, EPOLLIN, 0);
  try {
    for (;;) {
      const leftMs = Math.ceil(untilMs - performance.now());
      if (leftMs <= 0) return `no answer from ${path} within ${timeoutMs} ms; --timeout allows more`;
      if (epoll.wait(leftMs) === 0) continue;
      const text = peekText(fd, LONGEST_ANSWER_BYTES);
      if (text === "" || text === -errno.ECONNRESET) return refused;
      if (typeof text === "number") {
        if (text === -errno.EAGAIN) continue;
        return `reading the answer failed with ${errnoName(-text)}`;
      }
      const end = text.indexOf("\n");
      if (end < 0 && text.length < LONGEST_ANSWER_BYTES && "OK ".startsWith(text.slice(0, 3))) {
        // The rest of the line is on its way; looking for it is cheap, and it is never long.
        pause(1);
        continue;
      }
      const assigned = /^OK (\d{1,10})$/.exec(text.slice(0, Math.max(end, 0)))?.[1];
      if (assigned === undefined)
        return `whoever listens at ${path} is no vsock device: it answered ${JSON.stringify(text)}`;
      skipBytes(fd, end + 1);
      return Number(assigned);
    }
  } finally {
    epoll.close();
  }
}

function pause(ms: number): void {
  const epoll = new Epoll();
  epoll.wait(ms);
  epoll.close();
}
