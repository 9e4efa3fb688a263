/**
 * Signals sent to a process that only waits for them.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { it } from "node:test";

const SCRIPT = `
  const { waitForStopSignal } = await import(process.argv[1]);
  setInterval(() => {}, 60_000);
  const stopped = waitForStopSignal();
  console.log("waiting");
  console.log(await stopped);
`;

for (const [first, second] of [
  ["SIGTERM", "SIGINT"],
  ["SIGINT", "SIGTERM"],
] as const) {
  it(`${first} asks for a clean end, and ${second} after it kills`, async (t) => {
    const signalsModule = new URL("./signals.js", import.meta.url).href;
    const child = spawn(process.execPath, ["--input-type=module", "-e", SCRIPT, signalsModule], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    t.after(() => child.kill("SIGKILL"));
    const ended = once(child, "exit");
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, "waiting");
    child.kill(first);
    assert.equal((await lines.next()).value, first);
    child.kill(second);
    assert.deepEqual(await ended, [null, second]);
  });
}
