/** One round on our device: that every row is there and of a sensible kind. What it says of memory is no test. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { measureMemory } from "./memory.js";

it("measures the memory of our device, of its connections and of a further VM", async () => {
  const records = await measureMemory({ rounds: 1, useMs: 20, peerProgram: undefined });
  assert.deepEqual(
    records.map(({ row }) => row),
    ["memory-device", "memory-device-rss", "memory-idle-1000", "memory-used-1000", "memory-extra-vm"],
  );
  for (const { row, ours, peer, met } of records) {
    assert.ok(ours !== null && Number.isFinite(ours), row);
    assert.deepEqual([peer, met], [null, null]);
  }
  const [device, resident, , , extraVm] = records;
  assert.ok(Number(resident.ours) > Number(device.ours));
  assert.deepEqual(Object.keys(device.parts ?? {}), ["node", "thread", "modules", "rest"]);
  assert.deepEqual(Object.keys(extraVm.parts ?? {}), ["thread", "modules", "rest"]);
});
