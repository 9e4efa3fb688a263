/** Reads what this process uses: memory, descriptors, processor time. */
import { readdirSync } from "node:fs";
import type { ProcessFigures } from "./figures.js";

export function processFigures(): ProcessFigures {
  const { user, system } = process.cpuUsage();
  return {
    pid: process.pid,
    residentBytes: process.memoryUsage.rss(),
    openDescriptors: openDescriptors(),
    cpuSeconds: (user + system) / 1e6,
  };
}

/** Without the one that reads the directory; 0 where /proc is not to be read, or no descriptor is left to read it with. */
function openDescriptors(): number {
  try {
    return readdirSync("/proc/self/fd").length - 1;
  } catch {
    return 0;
  }
}
