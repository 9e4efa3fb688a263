import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Timer, Timers } from "./timers.js";

describe("timers", () => {
  it("run once, in order of deadline, neither early nor after they were cancelled", () => {
    const step = fc.oneof(
      fc.record({ kind: fc.constant("add" as const), delayMs: fc.constantFrom(0, 1, 10, 100, 2000) }),
      fc.record({ kind: fc.constant("cancel" as const), which: fc.nat({ max: 30 }) }),
      fc.record({
        kind: fc.constant("start" as const),
        which: fc.nat({ max: 30 }),
        delayMs: fc.constantFrom(0, 1, 7, 10, 2000),
      }),
      fc.record({ kind: fc.constant("pass" as const), ms: fc.constantFrom(0, 1, 5, 50, 3000) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        let nowMs = 0;
        const timers = new Timers(() => nowMs);
        const model: { deadlineMs: number; done: boolean; timer: Timer }[] = [];
        const ran: number[] = [];
        for (const each of steps) {
          if (each.kind === "add") {
            const index = model.length;
            const timer = timers.add(each.delayMs, () => ran.push(index));
            model.push({ deadlineMs: nowMs + each.delayMs, done: false, timer });
          } else if (each.kind === "cancel") {
            const found = model[each.which];
            found?.timer.cancel();
            if (found !== undefined) found.done = true;
          } else if (each.kind === "start") {
            const found = model[each.which];
            if (found === undefined) continue;
            found.timer.start(each.delayMs);
            found.deadlineMs = nowMs + each.delayMs;
            found.done = false;
          } else {
            nowMs += each.ms;
            timers.runDue();
            const due = model.filter(({ done, deadlineMs }) => !done && deadlineMs <= nowMs);
            assert.deepEqual(new Set(ran.splice(0)), new Set(due.map((timer) => model.indexOf(timer))));
            for (const timer of due) timer.done = true;
          }
          const pending = model.filter(({ done }) => !done).map(({ deadlineMs }) => deadlineMs);
          assert.equal(
            timers.msUntilNext(),
            pending.length === 0 ? -1 : Math.max(0, Math.min(...pending) - nowMs),
          );
        }
      }),
    );
  });

  it("of different delays run in order of deadline", () => {
    let nowMs = 0;
    const timers = new Timers(() => nowMs);
    const ran: string[] = [];
    timers.add(20, () => ran.push("second"));
    nowMs = 5;
    timers.add(10, () => ran.push("first"));
    timers.add(20, () => ran.push("third"));
    nowMs = 100;
    timers.runDue();
    assert.deepEqual(ran, ["first", "second", "third"]);
  });

  it("can be cancelled, and added, by a callback of the same moment", () => {
    const timers = new Timers(() => 0);
    const ran: string[] = [];
    timers.add(0, () => {
      ran.push("first");
      second.cancel();
      timers.add(0, () => ran.push("added"));
    });
    const second = timers.add(0, () => ran.push("second"));
    timers.runDue();
    assert.deepEqual(ran, ["first"]);
    timers.runDue();
    assert.deepEqual(ran, ["first", "added"]);
  });

  it("can start themselves anew, and be put off by a handler of the same moment", () => {
    let nowMs = 0;
    const timers = new Timers(() => nowMs);
    const ran: string[] = [];
    const again = timers.add(10, () => {
      ran.push(`again at ${nowMs}`);
      again.start(10);
      late.start(5);
    });
    const late = timers.add(10, () => ran.push(`late at ${nowMs}`));
    for (nowMs = 0; nowMs <= 20; nowMs += 5) timers.runDue();
    assert.deepEqual(ran, ["again at 10", "late at 15", "again at 20"]);
    assert.deepEqual([again.isRunning, late.isRunning], [true, true]);
    again.cancel();
    late.cancel();
    assert.equal(timers.msUntilNext(), -1);
  });

  it("round a fraction of a millisecond up, so that a wait does not end just before a deadline", () => {
    let nowMs = 0;
    const timers = new Timers(() => nowMs);
    timers.add(10, () => {});
    nowMs = 9.25;
    assert.equal(timers.msUntilNext(), 1);
  });
});
