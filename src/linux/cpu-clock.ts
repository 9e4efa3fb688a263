/**
 * The CPU time of a whole process, to the nanosecond: that of another one too, and with the threads that have ended.
 * Must not know what for.
 */
import { orErrno } from "./errors.js";
import { libcCalls } from "./libc.js";
import { setupScratch } from "./scratch.js";

/** CPUCLOCK_SCHED of include/linux/posix-timers_types.h: user and system time as the scheduler counts it. */
const CPUCLOCK_SCHED = 2;

/**
 * User and system time of a process so far, in nanoseconds, or `-errno` (-EINVAL: there is none of that id). Needs no
 * permission. A clock of a single thread is the process's own affair; of others /proc tells.
 */
export function processCpuNs(pid: number): number {
  // clock_getcpuclockid(3) computes it so: the kernel's MAKE_PROCESS_CPUCLOCK.
  const clock = (~pid << 3) | CPUCLOCK_SCHED;
  const result = orErrno(libcCalls.clock_gettime(clock, setupScratch.address));
  if (result < 0) return result;
  // struct timespec { time_t tv_sec; long tv_nsec; }
  const { data } = setupScratch;
  return Number(data.getBigInt64(0, true)) * 1e9 + Number(data.getBigInt64(8, true));
}
