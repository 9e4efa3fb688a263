/**
 * Whether the conformance kit notices what it is for: each mutant of this project's device, served in a process of its
 * own, fails each of the cases that name it, and still does what any device does. The same cases pass with the same copy of
 * the build without a fault.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CASES } from "../../../src/conformance/index.js";
import { MUTANTS } from "./index.js";
import { copyBuild, type Mutant, mutated } from "./mutant.js";
import { type TriedCase, tryBuild } from "./try-build.js";

/** What a device with a small fault still does: one that is merely broken would be found by anything. */
const STILL_WORKS = "session.works";
const NOT_STARTED = /cannot be asked what it offers|ended at once/;
/** A case about what must not happen waits a moment for it; on a busy machine a device may be later with its fault. */
const ATTEMPTS = 3;
/** As many at a time as the smallest machines have processors. */
const AT_ONCE = 2;

/** Tries a copy of the build, which is removed behind it. */
async function tried(mutant: Mutant | undefined, ids: readonly string[]): Promise<TriedCase[]> {
  const copy = copyBuild(mutant);
  try {
    return await tryBuild(copy, ids);
  } finally {
    copy.remove();
  }
}

/** By id, since cases run in an order of their own. */
function verdicts(results: readonly TriedCase[]): string[] {
  return results.map(({ id, status, detail }) => [id, status, detail].join(" ").trim()).sort();
}

/** Every id with that status, likewise. */
function all(ids: readonly string[], status: TriedCase["status"]): string[] {
  return ids.map((id) => `${id} ${status}`).sort();
}

describe("the list of mutants", () => {
  it("names a fault once, in a place that is there once, and cases that there are", () => {
    const known = new Set(CASES.map(({ id }) => id));
    for (const mutant of MUTANTS) {
      assert.notEqual(mutated(mutant), mutated({ ...mutant, replace: mutant.find }), mutant.name);
      for (const id of mutant.cases) assert.ok(known.has(id), `${mutant.name}: there is no case ${id}`);
      assert.ok(!mutant.cases.includes(STILL_WORKS), mutant.name);
    }
    const names = MUTANTS.map(({ name }) => name);
    assert.deepEqual([...new Set(names)], names);
  });

  it("is refused where a place is not there, or is there twice", () => {
    const [mutant] = MUTANTS;
    assert.throws(() => mutated({ ...mutant, find: "no such code" }), /0 times, not once/);
    assert.throws(() => mutated({ ...mutant, find: "return" }), /times, not once/);
  });
});

describe("the conformance kit", { concurrency: AT_ONCE }, () => {
  it("passes the device without a fault in every case that a mutant is to fail", async () => {
    const ids = [...new Set([STILL_WORKS, ...MUTANTS.flatMap(({ cases }) => cases)])];
    assert.deepEqual(verdicts(await tried(undefined, ids)), all(ids, "passed"));
  });

  for (const mutant of MUTANTS) {
    it(`notices a device that ${mutant.fault}`, async () => {
      let unnoticed: readonly string[] = mutant.cases;
      for (let attempt = 1; unnoticed.length > 0; attempt++) {
        const results = await tried(mutant, [...unnoticed, STILL_WORKS]);
        const shown = verdicts(results).join("\n");
        assert.equal(results.length, unnoticed.length + 1, `every case is tried; ${shown}`);
        const failed = results.filter(({ status }) => status === "failed");
        for (const { detail } of failed) assert.doesNotMatch(detail, NOT_STARTED, shown);
        const ids = failed.map(({ id }) => id);
        assert.ok(!ids.includes(STILL_WORKS), shown);
        unnoticed = unnoticed.filter((id) => !ids.includes(id));
        assert.ok(unnoticed.length === 0 || attempt < ATTEMPTS, shown);
      }
    });
  }
});
