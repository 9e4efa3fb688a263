import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { afterEach, beforeEach, describe, it } from "node:test";
import { EPOLLIN } from "../linux/epoll.js";
import { createEventfd, drainEventfd, signalEventfd } from "../linux/eventfd.js";
import { DeviceThrew, TwoLoops } from "./two-loops.js";

const NOBODY = (): number => 0;
const NEVER = (): boolean => false;

describe("two loops on one clock", () => {
  let loops: TwoLoops;

  beforeEach(() => {
    loops = new TwoLoops();
  });

  afterEach(() => loops.close());

  it("are quiet at once when neither has anything to do", async () => {
    assert.equal(await loops.run(NOBODY, NEVER, 1000), "quiet");
    assert.equal(loops.nowMs, 0);
  });

  it("let time pass only from one timer to the next, of whichever loop it is", async () => {
    const rang: string[] = [];
    loops.guest.setTimer(7000, () => rang.push(`guest ${loops.nowMs}`));
    loops.device.setTimer(50, () => rang.push(`device ${loops.nowMs}`));
    assert.equal(await loops.run(NOBODY, NEVER, 10_000), "quiet");
    assert.deepEqual(rang, ["device 50", "guest 7000"]);
  });

  it("stop at the end of the time given, before a timer that lies behind it", async () => {
    loops.device.setTimer(5000, () => assert.fail("not in this time"));
    assert.equal(await loops.run(NOBODY, NEVER, 4999), "out-of-time");
  });

  it("go on while one wakes the other, while the VMM serves, and while promises are settled", async () => {
    const fd = createEventfd();
    let [rounds, served, settled] = [0, 3, false];
    const token = loops.device.watch(fd, EPOLLIN, {
      onEvents: () => {
        drainEventfd(fd);
        rounds++;
        if (rounds < 5) loops.guest.setTimer(1, () => signalEventfd(fd));
      },
    });
    signalEventfd(fd);
    void Promise.resolve().then(() => {
      settled = true;
    });
    const serve = (): number => (served > 0 ? served-- : 0);
    assert.equal(await loops.run(serve, NEVER, 100), "quiet");
    assert.deepEqual([rounds, served, settled, loops.nowMs], [5, 0, true, 4]);
    loops.device.unwatch(fd, token);
    closeSync(fd);
  });

  it("are done as soon as what is waited for holds", async () => {
    loops.guest.setTimer(3, () => {});
    loops.guest.setTimer(1000, () => {});
    assert.equal(await loops.run(NOBODY, () => loops.nowMs >= 3, 5000), "done");
    assert.equal(loops.nowMs, 3);
  });

  it("let a VMM that waits for its device turn the device's loop alone, and then the clock", () => {
    let rang = 0;
    loops.guest.setTimer(1, () => assert.fail("the guest stands still meanwhile"));
    loops.device.setTimer(30, () => rang++);
    loops.pumpDevice(50);
    assert.deepEqual([loops.nowMs, rang], [30, 0]);
    loops.pumpDevice(50);
    assert.deepEqual([loops.nowMs, rang], [30, 1]);
    loops.pumpDevice(50);
    assert.equal(loops.nowMs, 80);
  });

  it("tell an exception of the device's side from one of the guest's", async () => {
    loops.device.setTimer(0, () => {
      throw new Error("out of the device");
    });
    await assert.rejects(loops.run(NOBODY, NEVER, 10), DeviceThrew);
    loops.guest.setTimer(0, () => {
      throw new TypeError("out of the guest");
    });
    await assert.rejects(loops.run(NOBODY, NEVER, 10), TypeError);
  });
});
