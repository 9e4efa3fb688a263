import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { makeRecord, meets, toJson } from "./record.js";
import { ROW_NAMES, ROWS, rowsOf, WORKS } from "./rows.js";
import { toTable } from "./table.js";

describe("the records of the bench", () => {
  it("compare medians, and meet their bars from the bar on", () => {
    const record = makeRecord("g2h-64k", { ours: [1000, 1010, 990], peer: [500, 505, 495], floor: [1250] });
    assert.equal(record.ours, 1000);
    assert.equal(record.peer, 500);
    assert.deepEqual(record.ratio, { peer: 2, floor: 0.8 });
    assert.deepEqual(record.bar, { peer: 2, floor: 0.8, own: null });
    assert.equal(record.met, true);
    assert.deepEqual(record.spread, { ours: 0.02, peer: 0.02, floor: 0 });
  });

  it("are not met if one bar of two is missed", () => {
    assert.equal(makeRecord("g2h-64k", { ours: [100], peer: [10], floor: [200] }).met, false);
    assert.equal(makeRecord("g2h-64k", { ours: [100], peer: [60], floor: [100] }).met, false);
  });

  it("read the bar the other way where less is better", () => {
    assert.equal(makeRecord("rtt-64-median", { ours: [7], peer: [10], floor: [] }).met, true);
    assert.equal(makeRecord("rtt-64-median", { ours: [8], peer: [10], floor: [] }).met, false);
    assert.ok(meets({ better: "less" }, 0.7, 0.7));
    assert.ok(!meets({ better: "more" }, 0.69, 0.7));
  });

  it("say nothing of a bar where the peer was not measured", () => {
    const record = makeRecord("open-guest-1", { ours: [100], peer: [], floor: [] });
    assert.deepEqual([record.peer, record.ratio.peer, record.met], [null, null, null]);
    assert.equal(record.bar.peer, 1.1);
  });

  it("check a share by itself", () => {
    assert.equal(makeRecord("many-1000-slowest", { ours: [0.95], peer: [], floor: [] }).met, true);
    assert.equal(makeRecord("many-1000-slowest", { ours: [0.85], peer: [0.1], floor: [] }).met, false);
  });

  it("are one line of JSON each, with every key", () => {
    const line = toJson(makeRecord("g2h-4k", { ours: [10], peer: [4], floor: [] }));
    assert.ok(!line.includes("\n"));
    assert.deepEqual(JSON.parse(line), {
      row: "g2h-4k",
      unit: "MiB/s",
      ours: 10,
      peer: 4,
      floor: null,
      ratio: { peer: 2.5, floor: null },
      bar: { peer: 2, floor: 0.85, own: null },
      met: true,
      spread: { ours: 0, peer: 0, floor: null },
    });
  });

  it("are a table with a line each", () => {
    const table = toTable([
      makeRecord("g2h-4k", { ours: [10], peer: [4], floor: [20] }),
      makeRecord("rtt-64-p99", { ours: [5], peer: [], floor: [] }),
    ]);
    const lines = table.split("\n");
    assert.equal(lines.length, 3);
    assert.match(lines[1], /^g2h-4k .* NO$/);
    assert.match(lines[2], /≤0.75×$/);
  });
});

describe("the rows of the bench", () => {
  it("are each read off exactly one kind of work", () => {
    const found = WORKS.flatMap(rowsOf);
    assert.deepEqual([...found].sort(), [...ROW_NAMES].sort());
  });

  it("all have a bar", () => {
    for (const name of ROW_NAMES) assert.ok(Object.keys(ROWS[name].bar).length > 0, name);
  });
});
