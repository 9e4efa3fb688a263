/**
 * The log as a whole: records in, lines out, whatever the records hold and however the writing fails.
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { EVENTS } from "./events.js";
import { formatJson, formatText } from "./format.js";
import { createLogger, lineSink, silentLogger } from "./logger.js";
import { fdOutput } from "./output.js";
import { LOG_LEVELS, type LogRecord, passes } from "./record.js";

const TIME = Date.UTC(2026, 10, 22, 10, 0, 0, 123);

const RECORD: LogRecord = {
  time: TIME,
  level: "info",
  event: "translation-mode",
  vm: 3,
  message: "off: no IOTLB message came",
  fields: { mode: "off", evidence: "50 ms of silence", rings: 2, backendChannel: true, why: null },
};

const anyRecord: fc.Arbitrary<LogRecord> = fc.record({
  time: fc.integer({ min: 0, max: TIME * 2 }),
  level: fc.constantFrom(...LOG_LEVELS),
  event: fc.constantFrom("listening", "internal-error"),
  vm: fc.nat(),
  message: fc.string({ unit: "binary" }),
  fields: fc.dictionary(
    fc.string({ unit: "binary" }),
    fc.oneof(fc.string({ unit: "binary" }), fc.integer(), fc.boolean(), fc.constant(null)),
  ),
});

/** A descriptor that keeps what is written to it, until it is told to fail. */
class FakeDescriptor {
  text = "";
  failure: string | undefined;
  /** How many bytes one call takes; the rest is offered again. */
  bytesPerCall = Number.POSITIVE_INFINITY;
  /** After how many bytes the failure strikes. */
  bytesUntilFailure = 0;

  readonly write = (_fd: number, bytes: Uint8Array, offset: number): number => {
    if (this.failure !== undefined && this.bytesUntilFailure === 0) {
      throw Object.assign(new Error(this.failure), { code: this.failure });
    }
    const limit = this.failure === undefined ? this.bytesPerCall : this.bytesUntilFailure;
    const taken = Math.min(bytes.length - offset, limit);
    this.bytesUntilFailure -= Math.min(taken, this.bytesUntilFailure);
    this.text += Buffer.from(bytes.subarray(offset, offset + taken)).toString("latin1");
    return taken;
  };
}

describe("the text form", () => {
  it("is time, level, VM, event, message, and then the fields", () => {
    assert.equal(
      formatText(RECORD),
      "2026-11-22T10:00:00.123Z info vm=3 translation-mode: off: no IOTLB message came" +
        ' mode=off evidence="50 ms of silence" rings=2 backendChannel=true why=null',
    );
  });

  it("leaves out the VM of a record that is about the program", () => {
    const { vm: _, fields: __, ...record } = RECORD;
    assert.equal(formatText(record), `2026-11-22T10:00:00.123Z info translation-mode: ${RECORD.message}`);
  });

  it("shows control characters as escapes, so that a guest cannot forge a line", () => {
    const line = formatText({ ...RECORD, message: "a\nb\u001b[31m\u2028c", fields: { path: "x\ny" } });
    assert.match(line, /a\\u000ab\\u001b\[31m\\u2028c path="x\\ny"$/);
  });

  it("is one line for any record", () => {
    fc.assert(fc.property(anyRecord, (record) => !/[\p{Cc}\u2028\u2029]/u.test(formatText(record))));
  });
});

describe("the JSON form", () => {
  it("is one flat object, its own keys first", () => {
    assert.equal(
      formatJson(RECORD),
      '{"time":"2026-11-22T10:00:00.123Z","level":"info","event":"translation-mode","vm":3,' +
        '"message":"off: no IOTLB message came","mode":"off","evidence":"50 ms of silence","rings":2,' +
        '"backendChannel":true,"why":null}',
    );
  });

  it("keeps the record's own keys when a field has the same name", () => {
    const parsed = JSON.parse(formatJson({ ...RECORD, fields: { message: "the guest's", level: 7 } }));
    assert.equal(parsed.message, RECORD.message);
    assert.equal(parsed.message_, "the guest's");
    assert.equal(parsed.level, "info");
    assert.equal(parsed.level_, 7);
  });

  it("is one line and reads back for any record", () => {
    fc.assert(
      fc.property(anyRecord, (record) => {
        const line = formatJson(record);
        assert.ok(!line.includes("\n"));
        const parsed = JSON.parse(line);
        assert.equal(parsed.message, record.message);
        assert.equal(parsed.vm, record.vm);
      }),
    );
  });
});

describe("the logger", () => {
  function recording(level: (typeof LOG_LEVELS)[number]) {
    const records: LogRecord[] = [];
    return { records, log: createLogger({ level, sink: (record) => records.push(record), now: () => TIME }) };
  }

  it("stamps the time and the event's own level", () => {
    const { records, log } = recording("info");
    log.log({ event: "ring-broken", message: "the chain loops", vm: 4, fields: { queue: 1 } });
    assert.deepEqual(records, [
      {
        time: TIME,
        level: "error",
        event: "ring-broken",
        vm: 4,
        message: "the chain loops",
        fields: { queue: 1 },
      },
    ]);
  });

  it("keeps the time of a record that comes from elsewhere", () => {
    const { records, log } = recording("info");
    log.log({ event: "session-start", message: "from a Worker", time: 5 });
    assert.equal(records[0].time, 5);
  });

  it("gives a child's VM to records that name none", () => {
    const { records, log } = recording("info");
    const child = log.child({ vm: 3 });
    child.log({ event: "session-start", message: "its own" });
    child.log({ event: "session-start", message: "another's", vm: 4 });
    log.log({ event: "session-start", message: "nobody's" });
    assert.deepEqual(
      records.map(({ vm }) => vm),
      [3, 4, undefined],
    );
  });

  it("drops what is less urgent than its level", () => {
    const { records, log } = recording("warn");
    log.log({ event: "listening", message: "info" });
    log.log({ event: "message-refused", message: "warn" });
    log.log({ event: "internal-error", message: "error" });
    assert.deepEqual(
      records.map(({ event }) => event),
      ["message-refused", "internal-error"],
    );
    assert.equal(log.passes("info"), false);
    assert.equal(log.child({ vm: 3 }).passes("warn"), true);
  });

  it("passes everything up to its level and nothing after it", () => {
    for (const [index, threshold] of LOG_LEVELS.entries()) {
      for (const [other, level] of LOG_LEVELS.entries()) {
        assert.equal(passes(threshold, level), other <= index);
      }
    }
  });

  it("can be silent", () => {
    silentLogger.child({ vm: 3 }).log({ event: "listening", message: "unheard" });
    assert.equal(silentLogger.passes("error"), false);
  });
});

describe("writing to a descriptor", () => {
  it("goes on after a short write until the whole line is out", () => {
    const descriptor = new FakeDescriptor();
    descriptor.bytesPerCall = 3;
    assert.equal(fdOutput(2, descriptor.write)("a longer line"), true);
    assert.equal(descriptor.text, "a longer line\n");
  });

  for (const code of ["EPIPE", "ENOSPC", "EAGAIN", "EBADF"]) {
    it(`survives ${code} and says afterwards how many records were lost`, () => {
      const descriptor = new FakeDescriptor();
      const log = createLogger({
        level: "info",
        sink: lineSink("json", fdOutput(2, descriptor.write)),
        now: () => TIME,
      });
      descriptor.failure = code;
      log.log({ event: "session-start", message: "lost" });
      log.log({ event: "session-end", message: "lost too" });
      assert.equal(descriptor.text, "");
      descriptor.failure = undefined;
      log.log({ event: "listening", message: "through" });
      log.log({ event: "listening", message: "through again" });
      const events = descriptor.text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
      assert.deepEqual(
        events.map(({ event, lostCount }) => [event, lostCount]),
        [
          ["log-lost", 2],
          ["listening", undefined],
          ["listening", undefined],
        ],
      );
    });
  }

  it("begins a new line after one that was torn", () => {
    const descriptor = new FakeDescriptor();
    const output = fdOutput(2, descriptor.write);
    descriptor.failure = "ENOSPC";
    descriptor.bytesUntilFailure = 4;
    assert.equal(output("a torn line"), false);
    descriptor.failure = undefined;
    assert.equal(output("a whole line"), true);
    assert.equal(descriptor.text, "a to\na whole line\n");
  });
});

describe("the table of events", () => {
  it("has ids of lower-case words with dashes, and a paragraph of sentences for each", () => {
    for (const [id, { level, text }] of Object.entries(EVENTS)) {
      assert.match(id, /^[a-z]+(-[a-z]+)*$/);
      assert.ok(LOG_LEVELS.includes(level));
      assert.match(text, /^[A-Z].{40,}\.$/, id);
    }
  });
});
