/**
 * Back-ends that hang, die or answer garbage: each costs the case that met it, with what was seen, and the run goes on.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { CaseContext } from "../../src/conformance/context.js";
import { CASES, type CaseResult, type ConformanceCase, runCases } from "../../src/conformance/index.js";

const FAKE = fileURLToPath(new URL("./fake-backend.js", import.meta.url));

/** A case that asks once, or so often. */
function asks(id: string, times: number): ConformanceCase {
  return {
    id,
    title: `${times} questions are answered`,
    rule: { document: "a test", section: "none", says: "nothing" },
    needs: {},
    async run(context: CaseContext) {
      const session = await context.connect();
      for (let i = 0; i < times; i++) session.getFeatures();
    },
  };
}

describe("the conformance kit, with a back-end that misbehaves", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "bit33-fake-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  async function run(mode: string, cases: readonly ConformanceCase[]): Promise<CaseResult[]> {
    const socketPath = join(folder, `${mode}.sock`);
    return runCases(cases, {
      target: { socketPath, udsPath: join(folder, "uds"), guestCid: 3, patienceMs: 300 },
      command: `exec ${process.execPath} ${FAKE} ${mode} {socket} ${join(folder, `${mode}.starts`)}`,
    });
  }

  const starts = (mode: string): number =>
    readFileSync(join(folder, `${mode}.starts`), "utf8")
      .trim()
      .split("\n").length;

  // One question of the kit's own comes first: what is offered.
  const KINDS: readonly [mode: string, detail: RegExp][] = [
    ["hang-after-2", /waited 300 ms for an answer \(timeout\)/],
    [
      "die-after-2",
      /closed the connection.*; the back-end's process ended \(status 3\), saying: a bad thing/,
    ],
    ["abort-after-2", /closed the connection.*; the back-end's process ended \(SIGABRT\)/],
    ["leave-after-2", /the back-end closed the connection \(closed\)/],
    ["garbage-after-2", /malformed/],
    ["other-request-after-2", /GET_FEATURES was answered with SET_FEATURES|malformed/],
    ["cut-after-2", /waited 300 ms for an answer \(timeout\)/],
  ];
  for (const [mode, detail] of KINDS) {
    it(`${mode}: the case that meets it fails with what was seen, and the next one is tried afresh`, async () => {
      const results = await run(mode, [asks("a.two", 2), asks("a.one", 1)]);
      assert.deepEqual(
        results.map(({ status }) => status),
        ["failed", "passed"],
      );
      assert.match(results[0].detail, detail);
      assert.match(results[0].seen.join("\n"), /front-end: GET_FEATURES\nback-end: GET_FEATURES REPLY 0x1/);
      assert.equal(starts(mode), 2, "each case has a back-end of its own");
    });
  }

  it("one that never answers fails every case with the question that it was asked", async () => {
    const results = await run("hang", CASES.slice(0, 3));
    for (const { status, detail } of results) {
      assert.equal(status, "failed");
      assert.match(detail, /cannot be asked what it offers: waited 300 ms/);
    }
  });

  it("one that does not start fails every case with its last words", async () => {
    const [result] = await runCases([asks("a.one", 1)], {
      target: { socketPath: join(folder, "never.sock"), patienceMs: 300 },
      command: "echo no such device >&2; exit 7",
    });
    assert.equal(result.status, "failed");
    assert.match(result.detail, /the command ended at once, saying: no such device/);
  });

  it("nobody at the socket is a failure that names it", async () => {
    const socketPath = join(folder, "nobody.sock");
    const [result] = await runCases([asks("a.one", 1)], { target: { socketPath, patienceMs: 100 } });
    assert.match(result.detail, new RegExp(`nobody can be reached at ${socketPath}: ENOENT`));
  });

  it("a rule that needs more than is offered is skipped, and says what is missing", async () => {
    const needs = { features: ["EVENT_IDX"], protocolFeatures: ["CONFIG"], endpoints: ["uds"] } as const;
    const [result] = await run("leave-after-9", [{ ...asks("a.one", 1), needs }]);
    assert.equal(result.status, "skipped");
    assert.equal(
      result.detail,
      "the back-end does not offer feature EVENT_IDX (bit 29), protocol feature CONFIG (bit 9)",
    );
  });

  it("a case that never ends is ended, and one that breaks names its line", async () => {
    const forever = { ...asks("a.forever", 1), limitMs: 200, run: () => new Promise<void>(() => {}) };
    const broken = {
      ...asks("a.broken", 1),
      run: () => {
        throw new TypeError("no such thing");
      },
    };
    const results = await run("leave-after-8", [forever, broken, asks("a.one", 1)]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ["failed", "failed", "passed"],
    );
    assert.match(results[0].detail, /not through after 200 ms/);
    assert.match(results[1].detail, /no such thing \(TypeError at .*fake-backends\.test\.js:\d+/);
  });

  it("an end that is asked for comes after the case that runs", async () => {
    const ending = new AbortController();
    const results = await runCases([asks("a.one", 1), asks("a.two", 1)], {
      target: { socketPath: join(folder, "nobody.sock"), patienceMs: 10 },
      signal: ending.signal,
      onResult: () => ending.abort(),
    });
    assert.equal(results.length, 1);
  });
});
