import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { cpuSeconds, cpuSecondsOf } from "./proc-stat.js";

describe("CPU time from /proc", () => {
  it("adds user and system time, whatever the thread is called", () => {
    const rest = "S 1 2 3 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1686083 3133440";
    assert.equal(cpuSecondsOf(`77 (node) ${rest}`), 3);
    assert.equal(cpuSecondsOf(`77 (a) b) (c 9 9) ${rest}`), 3);
  });

  it("grows with the work of this process", () => {
    const before = cpuSeconds(process.pid);
    while (cpuSeconds(process.pid) === before);
    assert.ok(cpuSeconds(process.pid) > before);
  });
});
