/** A tiny run of two works, with real processes: that the records are sane, and nothing about time. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { runContest } from "./contest.js";
import { WORKS } from "./rows.js";

it("measures a stream and a round trip over our device and the floor", async () => {
  const works = WORKS.filter(
    (work) =>
      (work.kind === "to-host" && work.messageBytes === 4096 && work.connections === 1) ||
      work.kind === "round-trip",
  );
  const { records, efforts } = await runContest({
    works,
    rounds: 1,
    durationMs: 30,
    warmUpMs: 0,
    queueSize: 256,
    peerProgram: undefined,
  });
  assert.deepEqual(
    records.map(({ row }) => row),
    ["g2h-4k", "cpu-g2h-4k", "rtt-64-median", "rtt-64-p99"],
  );
  for (const { row, ours, peer, floor } of records) {
    assert.equal(peer, null);
    // 30 ms may be less than one tick of the CPU clock.
    if (row === "cpu-g2h-4k") continue;
    assert.ok(ours !== null && Number.isFinite(ours) && ours > 0, `${row}: ${ours}`);
    assert.ok(floor !== null && Number.isFinite(floor) && floor > 0, `${row}, floor: ${floor}`);
  }
  assert.equal(efforts.length, works.length);
});
