import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createLogger } from "../log/logger.js";
import type { LogRecord } from "../log/record.js";
import { WorkerThread } from "./worker-thread.js";

/** A thread that fails at once, as one does in which an assertion fails. */
async function failing(cids: readonly number[]): Promise<readonly LogRecord[]> {
  const records: LogRecord[] = [];
  const thread = new WorkerThread({
    script: new URL("data:text/javascript,throw new Error('an assertion')"),
    start: {},
    guestCids: () => cids,
    log: createLogger({ level: "error", sink: (record) => records.push(record) }),
    stop: () => {},
  });
  await assert.rejects(thread.ended, /an assertion/);
  return records;
}

describe("a device's thread that fails", () => {
  it("is told of for each VM that it served, with all of them in the message", async () => {
    const records = await failing([3, 4, 7]);
    assert.deepEqual(
      records.map(({ event, vm }) => [event, vm]),
      [3, 4, 7].map((vm) => ["internal-error", vm]),
    );
    for (const { message } of records)
      assert.match(message, /^the device's thread, which VMs 3, 4, 7 share, failed: Error: an assertion/);
  });

  it("is told of once if it served one", async () => {
    const [record, ...more] = await failing([3]);
    assert.deepEqual([record.vm, more.length], [3, 0]);
    assert.match(record.message, /^the device's thread failed: Error: an assertion/);
  });
});
