/** What `start-probe.ts` writes, and where. */
export const MARKS_FD = 3;
export const SCRIPT_RUNS = "s";
export const LOADED = "l";
