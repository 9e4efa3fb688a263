import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { makeRecord, meets, toJson } from "./record.js";
import { ROW_NAMES, ROWS, rowsOf, STATED_ROW_NAMES, WORKS } from "./rows.js";
import { mostDisturbed, toBusyTable, toTable } from "./table.js";

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
      setting: "default",
      unit: "MiB/s",
      ours: 10,
      peer: 4,
      floor: null,
      ratio: { peer: 2.5, floor: null },
      bar: { peer: 2, floor: 0.85, own: null },
      met: true,
      spread: { ours: 0, peer: 0, floor: null },
      rounds: 1,
      leftOut: 0,
      buffers: { ours: null, peer: null },
      deviceBusy: { ours: null, peer: null },
      driverBusy: { ours: null, peer: null, floor: null },
      hostBusy: { ours: null, peer: null, floor: null },
      otherBusy: { ours: null, peer: null, floor: null },
      threads: { ours: [], peer: [] },
    });
  });

  it("say who was busy, and which threads of a device, the busiest first", () => {
    const threads = [
      { name: "device (main)", busy: 0.004 },
      { name: "little", busy: 0.01 },
      { name: "much", busy: 0.98765 },
    ];
    const busy = {
      ours: { device: 1.00165, threads, driver: 0.5, host: 0.25, other: 0.0123 },
      floor: { device: undefined, threads: [], driver: 0.75, host: 1, other: 0 },
    };
    const values = { ours: [10], peer: [], floor: [20] };
    const record = makeRecord("g2h-4k", values, { setting: "equal", busy });
    assert.equal(record.setting, "equal");
    assert.deepEqual(record.deviceBusy, { ours: 1, peer: null });
    assert.deepEqual(record.driverBusy, { ours: 0.5, peer: null, floor: 0.75 });
    assert.deepEqual(record.hostBusy, { ours: 0.25, peer: null, floor: 1 });
    assert.deepEqual(record.otherBusy, { ours: 0.012, peer: null, floor: 0 });
    assert.deepEqual(record.threads.ours, [
      { name: "much", busy: 0.988 },
      { name: "little", busy: 0.01 },
    ]);
  });

  it("have no bar to meet where they are only stated, and say what ours is made of", () => {
    const parts = { node: [40, 42, 38], thread: [50, 50, 51] };
    const record = makeRecord("start-answering", { ours: [90, 92], peer: [3, 3], floor: [] }, { parts });
    assert.equal(record.met, null);
    assert.equal(record.ratio.peer, 30.3);
    assert.deepEqual(record.parts, { node: 40, thread: 50 });
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

describe("the tables of the bench", () => {
  const values = { ours: [10], peer: [4], floor: [20] };

  it("keep the two settings apart, and say what was advertised", () => {
    const table = toTable([
      makeRecord("g2h-4k", values, { buffers: { ours: 262144, peer: 65536 } }),
      makeRecord("start-listening", { ours: [90], peer: [3], floor: [] }),
      makeRecord("g2h-4k", values, { setting: "equal", buffers: { ours: 262144, peer: 262144 } }),
    ]);
    const lines = table.split("\n");
    assert.deepEqual(
      lines.map((line) => line.split(" ")[0]),
      ["row", "--", "g2h-4k", "start-listening", "--", "g2h-4k"],
    );
    assert.equal(lines[1], "-- default buffers: ours 256 KiB, peer 64 KiB");
    assert.equal(lines[4], "-- equal buffers: ours 256 KiB, peer 256 KiB");
  });

  it("tell of each work once who was busy", () => {
    const ours = {
      device: 0.5,
      threads: [{ name: "node", busy: 0.5 }],
      driver: 0.25,
      host: 0.125,
      other: 0.04,
    };
    const records = [
      makeRecord("g2h-4k", values, { busy: { ours } }),
      makeRecord("cpu-g2h-4k", values, { busy: { ours } }),
      makeRecord("start-listening", values),
    ];
    const lines = toBusyTable(records).split("\n");
    assert.equal(lines.length, 2);
    assert.equal(mostDisturbed(records), 0.04);
    assert.match(lines[1], /^g2h-4k +default +50% +25% +13% +4% .*node 50%$/);
  });
});

describe("the rows of the bench", () => {
  it("are each read off exactly one kind of work", () => {
    const found = WORKS.flatMap(rowsOf);
    assert.deepEqual([...found].sort(), [...ROW_NAMES].sort());
  });

  it("have a bar, but for those that are only stated", () => {
    for (const name of ROW_NAMES) assert.ok(Object.keys(ROWS[name].bar).length > 0, name);
    for (const name of STATED_ROW_NAMES) assert.deepEqual(ROWS[name].bar, {}, name);
  });
});
