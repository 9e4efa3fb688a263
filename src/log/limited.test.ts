import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { limited } from "./limited.js";
import { createLogger } from "./logger.js";
import type { LogRecord } from "./record.js";

function rig(perSecond: number) {
  const records: LogRecord[] = [];
  const clock = { ms: 0 };
  const inner = createLogger({ level: "info", sink: (record) => records.push(record), now: () => 0 });
  return { records, clock, log: limited(inner, perSecond, () => clock.ms) };
}

describe("a limited logger", () => {
  it("passes so many records of an event a second, and counts the rest in the next that passes", () => {
    const { records, clock, log } = rig(2);
    for (let index = 0; index < 7; index++)
      log.log({ event: "connection-reset", message: `number ${index}` });
    assert.deepEqual(
      records.map(({ message }) => message),
      ["number 0", "number 1"],
    );
    clock.ms = 1000;
    log.log({ event: "connection-reset", message: "later", fields: { port: 1 } });
    log.log({ event: "connection-reset", message: "and again" });
    assert.deepEqual(records[2].fields, { port: 1, suppressed: 5 });
    assert.equal(records[3].fields, undefined);
  });

  it("lets no event use up the allowance of another", () => {
    const { records, log } = rig(1);
    for (let index = 0; index < 9; index++) log.log({ event: "connection-refused", message: "again" });
    log.log({ event: "session-end", message: "the one that matters" });
    assert.deepEqual(
      records.map(({ event }) => event),
      ["connection-refused", "session-end"],
    );
  });

  it("shares the allowance with its children", () => {
    const { records, log } = rig(1);
    log.log({ event: "connection-reset", message: "a" });
    log.child({ vm: 3 }).log({ event: "connection-reset", message: "b" });
    log.child({ vm: 3 }).log({ event: "session-end", message: "c" });
    assert.deepEqual(
      records.map(({ message, vm }) => [message, vm]),
      [
        ["a", undefined],
        ["c", 3],
      ],
    );
    assert.equal(log.passes("debug"), false);
    assert.equal(log.passes("warn"), true);
  });
});
