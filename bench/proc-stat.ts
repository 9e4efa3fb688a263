/**
 * CPU time of processes: of a whole one from its CPU clock, of its threads from /proc. Must not know what they do.
 *
 * Of threads the kernel tells in `schedstat`, in nanoseconds; that of a thread which runs at this moment can be behind by
 * a tick (4 ms and less), and without CONFIG_SCHED_INFO the file holds zeros. `stat` is what every kernel has, 100 times
 * a second.
 */
import { readdirSync, readFileSync } from "node:fs";
import { processCpuNs } from "../src/linux/cpu-clock.js";

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

/** The same from its `schedstat` line; undefined if this kernel does not count there. */
export function scheduledSecondsOf(schedstat: string): number | undefined {
  const runNs = Number(schedstat.split(" ")[0]);
  return runNs > 0 ? runNs / 1e9 : undefined;
}

/** User and system seconds of a process, with the threads that have ended; of one that is gone, an error. */
export function cpuSeconds(pid: number): number {
  const ns = processCpuNs(pid);
  if (ns >= 0) return ns / 1e9;
  return threadTimes(pid).reduce((sum, { seconds }) => sum + seconds, 0);
}

// Of the line "cpu" in /proc/stat; guest time is within user time.
const MACHINE_BUSY = { user: 1, nice: 2, system: 3, irq: 6, softirq: 7, steal: 8 } as const;

/** CPU seconds of the whole machine so far: whatever ran on it, and what its hypervisor took from it. */
export function machineSeconds(): number {
  return machineSecondsOf(readFileSync("/proc/stat", "latin1"));
}

export function machineSecondsOf(stat: string): number {
  const fields = stat.slice(0, stat.indexOf("\n")).split(/ +/);
  const ticks = Object.values(MACHINE_BUSY).reduce((sum, index) => sum + Number(fields[index]), 0);
  return ticks / TICKS_PER_SECOND;
}

export interface ThreadTime {
  readonly tid: number;
  /** As the thread is called; of the main one that is said as well. Node 20 calls them all the same. */
  readonly name: string;
  readonly seconds: number;
}

/** User and system seconds of each thread that a process has. */
export function threadTimes(pid: number): ThreadTime[] {
  const threads: ThreadTime[] = [];
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const of = (file: string): string => readFileSync(`/proc/${pid}/task/${thread}/${file}`, "latin1");
    try {
      const tid = Number(thread);
      const comm = of("comm").trimEnd();
      threads.push({
        tid,
        name: tid === pid ? `${comm} (main)` : comm,
        seconds: scheduledSecondsOf(readSchedstat(of)) ?? cpuSecondsOf(of("stat")),
      });
    } catch {
      // It ended while we looked.
    }
  }
  return threads;
}

function readSchedstat(of: (file: string) => string): string {
  try {
    return of("schedstat");
  } catch {
    return "0";
  }
}
