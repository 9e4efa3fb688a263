/** CPU time of a process, from /proc, summed over the threads that it has. */
import { readdirSync, readFileSync } from "node:fs";

/** USER_HZ: what proc(5) counts in on every Linux architecture that Node runs on. */
const TICKS_PER_SECOND = 100;
// Positions after the name, which is in parentheses and may hold anything: proc(5) numbers state as 3.
const UTIME = 14 - 3;
const STIME = 15 - 3;

/** User and system time of one thread from its `stat` line, in seconds. */
export function cpuSecondsOf(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[UTIME]) + Number(fields[STIME])) / TICKS_PER_SECOND;
}

/** User and system seconds of all threads of a process. A thread that ends between two calls is missing in the later. */
export function cpuSeconds(pid: number): number {
  let seconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      seconds += cpuSecondsOf(readFileSync(`/proc/${pid}/task/${thread}/stat`, "latin1"));
    } catch {
      // It ended while we looked.
    }
  }
  return seconds;
}
