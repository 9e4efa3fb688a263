/** The host's program of the curves: that of the bench, which can also hold connections that nothing comes on. */
import { closeSync } from "node:fs";
import { EPOLLIN, Epoll } from "../src/linux/epoll.js";
import { acceptUnix, listenUnix } from "../src/linux/unix-socket.js";
import { readBytes } from "./bare-socket.js";
import { BareSockets } from "./bare-work.js";
import { NOTHING, type Outcome } from "./commands.js";
import type { CurveHostCommand } from "./curves-commands.js";
import { obey } from "./obey.js";
import { monotonicNs, Progress } from "./progress.js";

const LOOK_MS = 20;
const PATIENCE_LOOKS = 500;

const progress = new Progress(process.argv[2]);
const sockets = new BareSockets();
const kept: number[] = [];

function keep(fd: number): number {
  kept.push(fd);
  return fd;
}

/** Accepts on these listeners until there are so many connections; non-blocking ones. */
function accept(listeners: readonly number[], connections: number): number[] {
  const epoll = new Epoll();
  for (const listener of listeners) epoll.add(listener, EPOLLIN, listener);
  const accepted: number[] = [];
  for (let looks = 0; accepted.length < connections; looks++) {
    if (looks > PATIENCE_LOOKS) throw new Error(`${accepted.length} of ${connections} connections have come`);
    const ready = epoll.wait(LOOK_MS);
    if (ready > 0) looks = 0;
    for (let index = 0; index < ready; index++) {
      const listener = epoll.token(index);
      for (let fd = acceptUnix(listener); fd >= 0; fd = acceptUnix(listener)) accepted.push(keep(fd));
    }
  }
  epoll.close();
  return accepted;
}

/** Reads all of these until all is there. */
function receive(fds: readonly number[]): Outcome {
  const epoll = new Epoll();
  for (const fd of fds) epoll.add(fd, EPOLLIN, fd);
  let total = 0;
  let endedNs = 0;
  while (!progress.isOver || total < progress.totalBytes) {
    const ready = epoll.wait(LOOK_MS);
    for (let index = 0; index < ready; index++) {
      const bytes = readBytes(epoll.token(index));
      if (bytes <= 0) throw new Error(`a connection ended with ${bytes}`);
      total += bytes;
      endedNs = monotonicNs();
    }
  }
  epoll.close();
  return { beganNs: 0, endedNs, count: total };
}

const listeners: number[] = [];
const held: number[] = [];

obey((command: CurveHostCommand): Outcome => {
  switch (command.do) {
    case "listen":
      listeners.push(keep(listenUnix(command.path)));
      return NOTHING;
    case "listen-each":
      for (const path of command.paths) listeners.push(keep(listenUnix(path)));
      return NOTHING;
    case "hold":
      held.push(...accept(listeners, command.connections));
      return NOTHING;
    case "read":
      return receive(held.slice(-command.connections));
    case "send":
      return sockets.sendTo(command.path, command.port, command, progress);
    case "hang-up":
      for (const fd of kept.splice(0)) closeSync(fd);
      listeners.length = 0;
      held.length = 0;
      sockets.hangUp();
      return NOTHING;
    default:
      throw new Error(`no curve needs ${command.do}`);
  }
});
