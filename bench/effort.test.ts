import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { busyOf, type Effort, EffortClock } from "./effort.js";
import { cpuSeconds } from "./proc-stat.js";

function effort(measuredSeconds: number, deviceSeconds: number, threads: Effort["threads"]): Effort {
  return {
    measuredSeconds,
    deviceSeconds,
    driverSeconds: 0.5,
    hostSeconds: 0.25,
    otherSeconds: 0.125,
    threads,
  };
}

describe("the CPU time of runs", () => {
  it("is a share of the time measured, over all rounds together", () => {
    const main = { tid: 7, name: "device (main)" };
    const worker = { tid: 8, name: "device" };
    const late = { tid: 9, name: "late" };
    const rounds = [
      effort(1, 0.6, [
        { ...main, seconds: 0.1 },
        { ...worker, seconds: 0.5 },
      ]),
      effort(1, 0.8, [
        { ...main, seconds: 0.1 },
        { ...worker, seconds: 0.6 },
        { ...late, seconds: 0.1 },
      ]),
    ];
    const busy = busyOf(rounds, true);
    assert.equal(busy.device, 0.7);
    assert.equal(busy.driver, 0.5);
    assert.equal(busy.host, 0.25);
    assert.equal(busy.other, 0.125);
    assert.deepEqual(busy.threads, [
      { name: "device (main)", busy: 0.1 },
      { name: "device", busy: 0.55 },
      { name: "late", busy: 0.05 },
    ]);
  });

  it("without a device has none of a device", () => {
    assert.equal(busyOf([effort(1, 0, [])], false).device, undefined);
  });

  it("is what was spent in between", () => {
    const pid = process.pid;
    const clock = new EffortClock({ device: pid, driver: pid, host: pid });
    // Longer than any tick, since a thread that runs is told of by ticks.
    const enough = cpuSeconds(pid) + 0.02;
    while (cpuSeconds(pid) < enough);
    const { deviceSeconds, driverSeconds, threads } = clock.stop(0.02);
    assert.ok(deviceSeconds > 0);
    assert.ok(driverSeconds > 0);
    assert.ok(threads.some(({ tid, seconds }) => tid === pid && seconds > 0));
  });
});
