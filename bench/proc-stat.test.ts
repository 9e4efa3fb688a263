import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Worker } from "node:worker_threads";
import {
  cpuSeconds,
  cpuSecondsOf,
  machineSeconds,
  machineSecondsOf,
  scheduledSecondsOf,
  threadTimes,
} from "./proc-stat.js";

describe("CPU time from /proc", () => {
  it("adds user and system time, whatever the thread is called", () => {
    const rest = "S 1 2 3 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1686083 3133440";
    assert.equal(cpuSecondsOf(`77 (node) ${rest}`), 3);
    assert.equal(cpuSecondsOf(`77 (a) b) (c 9 9) ${rest}`), 3);
  });

  it("is in nanoseconds where the scheduler keeps count", () => {
    assert.equal(scheduledSecondsOf("1500000000 73533 2\n"), 1.5);
    assert.equal(scheduledSecondsOf("0 0 0\n"), undefined);
  });

  it("of the machine is all that was not idle, and what was stolen from it", () => {
    const stat = "cpu  100 20 30 5000 600 7 8 9 50 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
    assert.equal(machineSecondsOf(stat), 1.74);
    assert.ok(machineSeconds() > 0);
  });

  it("grows with the work of this process", () => {
    const before = cpuSeconds(process.pid);
    while (cpuSeconds(process.pid) === before);
    assert.ok(cpuSeconds(process.pid) > before);
  });

  it("is told of each thread, and of the main one that it is", async () => {
    const worker = new Worker("setInterval(() => {}, 1000)", { eval: true });
    await new Promise((resolve) => worker.once("online", resolve));
    const threads = threadTimes(process.pid);
    await worker.terminate();
    assert.ok(threads.length > 1);
    assert.deepEqual(
      threads.filter(({ name }) => name.endsWith(" (main)")).map(({ tid }) => tid),
      [process.pid],
    );
    assert.ok(threads.every(({ seconds }) => seconds >= 0));
  });

  it("of a process that is gone is an error, and no zero", () => {
    assert.throws(() => cpuSeconds(2 ** 22 + 1));
  });
});
