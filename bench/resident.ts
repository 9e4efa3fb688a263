/** The memory of a process that nothing but it holds, from /proc. Must not know what the process does. */
import { readFileSync } from "node:fs";

/**
 * KiB of anonymous memory that is resident: what no file is behind, so heaps, stacks and buffers. The guest's memory is
 * not in it (it is a shared file, and would be counted against whoever touches it), nor are the pages of programs, which
 * the kernel keeps once for all processes and drops when it needs room. From `smaps_rollup`, which walks the pages; what
 * `status` says is a counter that lags.
 */
export function anonymousKib(pid: number): number {
  return anonymousKibOf(readFileSync(`/proc/${pid}/smaps_rollup`, "latin1"));
}

export function anonymousKibOf(rollup: string): number {
  return kibOf(rollup, "Anonymous");
}

/**
 * KiB that are resident, as `ps` shows it, but for shared memory: with the pages of programs and libraries. From
 * `status`, to some hundred KiB.
 */
export function residentKib(pid: number): number {
  return residentKibOf(readFileSync(`/proc/${pid}/status`, "latin1"));
}

export function residentKibOf(status: string): number {
  return kibOf(status, "RssAnon") + kibOf(status, "RssFile");
}

/** /proc says kB and means KiB. */
function kibOf(text: string, name: string): number {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text);
  if (match === null) throw new Error(`no ${name} in ${JSON.stringify(text.slice(0, 80))}`);
  return Number(match[1]);
}

const PAUSE_MS = 150;
const LONGEST_MS = 3000;
/** Less than this from one look to the next is rest. */
const RESTLESS_KIB = 16;

/** The same once it has stopped to change; of a process that never rests, what it has after a while. */
export async function settledKib(pid: number): Promise<number> {
  const deadlineMs = performance.now() + LONGEST_MS;
  let before = anonymousKib(pid);
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const now = anonymousKib(pid);
    if (Math.abs(now - before) < RESTLESS_KIB || performance.now() > deadlineMs) return now;
    before = now;
  }
}
