/**
 * Our device's program, with marks on the way: run instead of it with the same arguments, it says on descriptor 3 when
 * node has come to the first line of a script, and when the modules of `serve` are loaded.
 */
import { writeSync } from "node:fs";
import { LOADED, MARKS_FD, SCRIPT_RUNS } from "./start-marks.js";

writeSync(MARKS_FD, SCRIPT_RUNS);
// What main.js loads before it makes a socket; main.js itself serves as soon as it is loaded.
await import("../src/cli/serve.js");
await import("../src/device/device.js");
writeSync(MARKS_FD, LOADED);
await import("../src/cli/main.js");
