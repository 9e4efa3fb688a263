/** The kept reports are today's: every case is in them, in order, and what fails has been read. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CASES } from "../../src/conformance/index.js";
import { keptReport, SUBJECTS } from "./kept-reports.js";
import { readings } from "./readings.js";

const STALE = "run `npm run conform:reports` and commit docs/conformance";

describe("the kept conformance reports", () => {
  for (const subject of Object.values(SUBJECTS)) {
    it(`${subject.file} has exactly today's cases`, () => {
      assert.deepEqual(
        keptReport(subject).map(({ id }) => id),
        CASES.map(({ id }) => id),
        STALE,
      );
    });
  }

  it("say that nothing fails with this project's device, and that every rule applies to it", () => {
    assert.deepEqual(
      keptReport(SUBJECTS.ours).filter(({ status }) => status !== "passed"),
      [],
    );
  });

  it("have a reading for each failure and none for what does not fail", () => {
    const failed = keptReport(SUBJECTS.peer).filter(({ status }) => status === "failed");
    assert.deepEqual(Object.keys(readings).sort(), failed.map(({ id }) => id).sort());
  });
});

describe("the cases", () => {
  it("are at least 80, each with an id of its own in a family, a title and a rule with its source", () => {
    assert.ok(CASES.length >= 80);
    assert.equal(new Set(CASES.map(({ id }) => id)).size, CASES.length);
    for (const { id, title, rule } of CASES) {
      assert.match(id, /^[a-z]+\.[a-z0-9-]+$/);
      assert.ok(title.length > 10 && !title.endsWith("."), `${id} has a title that is a clause`);
      assert.ok(rule.says.length > 10, `${id} says its rule`);
      if ("agreed" in rule) {
        assert.ok(
          rule.agreed.some((place) => place.startsWith("Linux ")),
          id,
        );
        assert.ok(rule.agreed.length >= 2, id);
      } else
        assert.ok(
          /^(vhost-user|VIRTIO 1\.4|Firecracker, docs\/vsock\.md)$/.test(rule.document) &&
            rule.section !== "",
          id,
        );
    }
  });
});
