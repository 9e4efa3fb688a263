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
  const { records } = await runContest({
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
  for (const {
    row,
    setting,
    ours,
    peer,
    floor,
    deviceBusy,
    driverBusy,
    hostBusy,
    threads,
    buffers,
  } of records) {
    assert.equal(peer, null);
    // Without the peer there is nothing to be equal to.
    assert.equal(setting, "default");
    assert.ok(ours !== null && Number.isFinite(ours) && ours > 0, `${row}: ${ours}`);
    if (row !== "cpu-g2h-4k")
      assert.ok(floor !== null && Number.isFinite(floor) && floor > 0, `${row}, floor: ${floor}`);
    assert.deepEqual(buffers, { ours: 1048576, peer: null });
    assert.ok(deviceBusy.ours !== null && deviceBusy.ours > 0);
    assert.equal(deviceBusy.peer, null);
    for (const side of ["ours", "floor"] as const) {
      assert.ok((driverBusy[side] ?? 0) > 0, `${row}: the driver of ${side}`);
      assert.ok((hostBusy[side] ?? 0) > 0, `${row}: the host's program of ${side}`);
    }
    assert.ok(threads.ours.length > 0);
  }
});
