/** One start of our device, with its marks: that they come in their order, and nothing about how long it takes. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { partsOf, startOnce } from "./start.js";
import { LOADED, SCRIPT_RUNS } from "./start-marks.js";

const PROBE = fileURLToPath(new URL("./start-probe.js", import.meta.url));

describe("a start", () => {
  it("of our device goes from script to modules to sockets to the first answer", async () => {
    const times = await startOnce({ program: process.execPath, args: [PROBE, "serve"] }, true);
    const { listeningMs, answeringMs, marksMs } = times;
    const order = [marksMs.get(SCRIPT_RUNS), marksMs.get(LOADED), listeningMs, answeringMs];
    assert.ok(order.every((ms) => ms !== undefined && ms > 0));
    assert.deepEqual(
      order,
      [...order].sort((a, b) => Number(a) - Number(b)),
    );
  });

  it("is divided without a rest", () => {
    const marksMs = new Map([
      [SCRIPT_RUNS, 40],
      [LOADED, 70],
    ]);
    const parts = partsOf([{ listeningMs: 75, answeringMs: 125, marksMs }]);
    assert.deepEqual(parts, { node: [40], modules: [30], sockets: [5], thread: [50] });
  });
});
