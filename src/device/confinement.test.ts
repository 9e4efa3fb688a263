import assert from "node:assert/strict";
import { it } from "node:test";
import { StartError } from "../config/errors.js";
import { createLogger, silentLogger } from "../log/logger.js";
import type { LogRecord } from "../log/record.js";
import { mayConfine } from "./confinement.js";

it("a kernel without Landlock is logged, and is the end of a start that asked for it", () => {
  const records: LogRecord[] = [];
  const log = createLogger({ level: "info", sink: (record) => records.push(record) });
  assert.equal(mayConfine(log, false, 0), false);
  assert.deepEqual(
    records.map(({ event, level }) => [event, level]),
    [["not-confined", "warn"]],
  );
  assert.throws(
    () => mayConfine(silentLogger, true, 0),
    (error) => error instanceof StartError && error.code === "confinement-missing",
  );
  assert.equal(mayConfine(silentLogger, true, 1), true);
});
