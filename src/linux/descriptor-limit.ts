/**
 * How many descriptors this process may open, and how many of them connections leave for everything else.
 */
import { readFileSync } from "node:fs";

/** The soft limit of RLIMIT_NOFILE; Node raises it to the hard one when it starts. */
export function descriptorLimit(limits: string = readFileSync("/proc/self/limits", "utf8")): number {
  const match = /^Max open files\s+(\d+|unlimited)/m.exec(limits);
  if (match === null || match[1] === "unlimited") return Number.POSITIVE_INFINITY;
  return Number(match[1]);
}

/**
 * Descriptors from this number on are not for connections. The kernel gives out the lowest free number, so a number
 * this high says that the process has nearly reached its limit, whichever VM used them up; what is left is for the
 * sessions of all VMs, to which a descriptor that is lost on the way would be fatal. (An eighth of the limit, 32 to
 * 256: our choice. A session holds about a dozen, and receives 32 at once at most.)
 */
export function connectionCeiling(limit: number = descriptorLimit()): number {
  return limit - Math.min(256, Math.max(32, Math.floor(limit / 8)));
}
