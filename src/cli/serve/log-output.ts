/**
 * Where the log of a program goes that others depend on: standard error, without ever waiting for whoever reads it. A pager
 * that was stopped, or a collector that hangs, must not hold up signals, metrics and the VMs that are being added.
 */
import { constants, fstatSync, openSync } from "node:fs";
import { setNonBlocking } from "../../linux/unix-socket.js";
import { fdOutput, type LineOutput } from "../../log/output.js";

const STDERR_FD = 2;

/** Lines that find no room are lost, and counted (`log-lost`). */
export function unwaitingLogOutput(): LineOutput {
  return fdOutput(unwaitingStderr());
}

function unwaitingStderr(): number {
  try {
    const stat = fstatSync(STDERR_FD);
    // Not waiting is a property of the open file, which is shared with whoever else was given it. A pipe can be opened
    // anew; a socket cannot, but it is ours alone, or our service manager's, who gave it to us for this.
    if (stat.isFIFO()) return openSync("/proc/self/fd/2", constants.O_WRONLY | constants.O_NONBLOCK);
    if (stat.isSocket()) setNonBlocking(STDERR_FD);
  } catch {
    // Without /proc, or closed: then it is as it was.
  }
  return STDERR_FD;
}
