/** Targets with a mistake each, for the test of the fuzzer itself. */
import type { Target } from "./target.js";

function target(name: string, run: (input: Uint8Array) => void): Target {
  return { name, about: "a mistake", mostBytes: 32, seeds: [new Uint8Array(4)], run };
}

/** Four bytes, each seen only when those before it are right: luck alone would take 2^32 tries. */
function hidden(input: Uint8Array): void {
  if (input[0] !== 0x62) return;
  if (input[1] !== 0x69) return;
  if (input[2] !== 0x74) return;
  if (input[3] === 0x33) throw new RangeError("found");
}

/** How often something happens is what matters, not what. */
function repeated(input: Uint8Array): void {
  let open = 0;
  for (const byte of input) if (byte === 0x28) open++;
  if (open >= 8) throw new RangeError(`${open} of them`);
}

export const TARGETS: readonly Target[] = [
  target("hidden", hidden),
  target("repeated", repeated),
  target("none", () => {}),
  target("dies", (input) => {
    if (input[0] > 128) process.kill(process.pid, "SIGKILL");
  }),
  target("hangs", (input) => {
    while (input[0] > 128);
  }),
];
