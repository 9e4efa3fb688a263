/** A tiny soak with real processes: that it comes to its end, and what its lines look like. Nothing about growth. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { runSoak } from "./soak-run.js";
import { METRICS } from "./soak-verdict.js";

it("plays, reboots VMs, samples, and ends without a wrong byte", async () => {
  const lines: Record<string, unknown>[] = [];
  const { status } = await runSoak({
    minutes: 0.06,
    load: 0.9,
    sampleMs: 300,
    quietMs: 1000,
    rebootMs: 800,
    seed: 33,
    onLine: (line) => lines.push(line as Record<string, unknown>),
  });
  const samples = lines.filter((line) => "sample" in line);
  const verdict = lines[lines.length - 1];
  assert.equal(status, 0, JSON.stringify(verdict));
  assert.equal(verdict.verdict, "too-short");
  assert.equal(verdict.samples, samples.length);
  assert.ok(samples.some(({ quiet }) => quiet === true));
  for (const metric of METRICS) {
    assert.ok(
      samples.every((sample) => typeof sample[metric] === "number"),
      metric,
    );
  }
  assert.ok((verdict.reboots as number) >= 1, `${verdict.reboots} reboots`);
  assert.ok((verdict.scenes as number) > 0 && (verdict.movedMiB as number) >= 0);
  assert.deepEqual([verdict.corrupt, verdict.failures, verdict.troubles], [0, 0, []]);
});
