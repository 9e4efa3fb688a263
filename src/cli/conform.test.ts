import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { CaseResult } from "../conformance/outcome.js";
import { junit, resultJson, resultText, summary } from "./conform/report.js";
import { conformCommand } from "./conform.js";

interface Outcome {
  readonly status: number;
  readonly printed: string;
  readonly complained: string;
}

async function conform(...argv: string[]): Promise<Outcome> {
  const printed: string[] = [];
  const complained: string[] = [];
  const status = await conformCommand(argv, {
    print: (line) => printed.push(line) > 0,
    complain: (line) => complained.push(line) > 0,
  });
  return { status, printed: printed.join("\n"), complained: complained.join("\n") };
}

const RULE = { document: "a document", section: "2.1", says: "what is asked is answered" } as const;
const FAILED: CaseResult = {
  case: { id: "own.case", title: "a <title>", rule: RULE, needs: {}, run: () => {} },
  status: "failed",
  detail: 'it said "no" & left',
  seen: ["front-end: GET_FEATURES", "back-end: \u0001"],
  tookMs: 12.4,
};

describe("bit33 conform", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "bit33-conform-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function file(name: string, text: string): string {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  }

  it("lists every case with its rule, without a back-end", async () => {
    const { status, printed } = await conform("--list");
    assert.equal(status, 0);
    assert.match(printed, /^session\.config-cid\n {4}GET_CONFIG gives .*\n {4}VIRTIO 1\.4, 5\.10\.4/m);
    const { printed: json } = await conform(
      "--list",
      "--json",
      "--pick",
      "session.*",
      "--skip",
      "session.features",
    );
    const records = json.split("\n").map((line) => JSON.parse(line));
    assert.ok(records.length > 10);
    assert.ok(
      records.every(({ id, title, rule }) => /^session\./.test(id) && title !== "" && rule.says !== ""),
    );
    assert.ok(!records.some(({ id }) => id === "session.features"));
  });

  it("says what is wrong with its command line, and ends with 2", async () => {
    const wrong: readonly [string[], RegExp][] = [
      [[], /no back-end is named; give --socket/],
      [["--socket", ""], /--socket: the path is empty/],
      [["--socket", `/${"x".repeat(200)}`], /201 bytes/],
      [["--socket", "/tmp/s", "--guest-cid", "2"], /--guest-cid: "2" is no guest's context id/],
      [["--socket", "/tmp/s", "--timeout", "0"], /--timeout: "0" is no number of seconds/],
      [["--socket", "/tmp/s", "--exec", " "], /--exec is empty/],
      [["--socket", "/tmp/s", "--junit", "/no/such/folder/x"], /there is no directory/],
      [["--list", "--pick", "sesion.works"], /no case is called "sesion.works".*session\.works/],
      [["--list", "--skip", "nothing.*"], /no case is called "nothing\.\*"/],
    ];
    for (const [argv, pattern] of wrong) {
      const { status, complained } = await conform(...argv);
      assert.equal(status, 2, argv.join(" "));
      assert.match(complained, pattern);
    }
  });

  it("takes cases of a file, which can be picked like the built-in ones", async () => {
    const path = file(
      "mine.mjs",
      `export default [{ id: "own.case", title: "mine", rule: { document: "d", section: "s", says: "x" }, run() {} }];`,
    );
    const { status, printed } = await conform("--list", "--cases", path, "--pick", "own.*");
    assert.equal(status, 0);
    assert.equal(printed, "own.case\n    mine\n    d, s: x");
  });

  it("says what is wrong with a file of cases", async () => {
    const rule = `rule: { document: "d", section: "s", says: "x" }`;
    const wrong: readonly [string, RegExp][] = [
      ["syntax error here", /cannot be loaded/],
      ["export default 3", /no default export that is an array/],
      ["export default [null]", /case 1: is no object/],
      [
        `export default [{ id: "No", title: "t", ${rule}, run() {} }]`,
        /case 1: its id is to have lower-case/,
      ],
      [`export default [{ id: "a.b", title: "t", ${rule} }]`, /a\.b has no function run/],
      [`export default [{ id: "a.b", title: "t", run() {} }]`, /a\.b has no rule/],
      [
        `export default [{ id: "session.works", title: "t", ${rule}, run() {} }]`,
        /there is a case session\.works already/,
      ],
    ];
    for (const [index, [text, pattern]] of wrong.entries()) {
      const { status, complained } = await conform("--list", "--cases", file(`wrong${index}.mjs`, text));
      assert.equal(status, 2, text);
      assert.match(complained, pattern);
    }
  });

  it("ends with 1 when a case fails, whatever the output", async () => {
    const socket = join(folder, "nobody.sock");
    const results = join(folder, "results.xml");
    const argv = ["--socket", socket, "--pick", "session.features", "--timeout", "0.05"];
    const text = await conform(...argv, "--junit", results);
    assert.equal(text.status, 1);
    assert.match(
      text.printed,
      /^FAIL {2}session\.features .*\n.*nobody can be reached.*\n.*rule: VIRTIO 1\.4/m,
    );
    assert.match(text.printed, /^0 passed, 1 failed, 0 skipped$/m);
    const json = await conform(...argv, "--json");
    assert.equal(json.status, 1);
    const { id, status, detail } = JSON.parse(json.printed);
    assert.deepEqual([id, status], ["session.features", "failed"]);
    assert.match(detail, /nobody can be reached/);
  });
});

describe("results", () => {
  it("as text have the rule and what was seen below a failure", () => {
    assert.equal(
      resultText(FAILED),
      [
        "FAIL  own.case  a <title>",
        '        it said "no" & left (after 12 ms)',
        "        rule: a document, 2.1: what is asked is answered",
        "        what was seen last:",
        "          front-end: GET_FEATURES",
        "          back-end: \u0001",
      ].join("\n"),
    );
  });

  it("as JSON are one object a line", () => {
    const { id, status, detail, seen, tookMs } = JSON.parse(resultJson(FAILED));
    assert.deepEqual(
      { id, status, detail, seen, tookMs },
      {
        id: "own.case",
        status: "failed",
        detail: FAILED.detail,
        seen: FAILED.seen,
        tookMs: 12,
      },
    );
  });

  it("as JUnit are well-formed whatever a back-end said, a suite a family", () => {
    const text = junit([
      FAILED,
      { ...FAILED, status: "skipped", detail: "<none>" },
      { ...FAILED, status: "passed" },
    ]);
    assert.match(text, /<testsuite name="own" tests="3" failures="1" skipped="1">/);
    assert.match(text, /<failure message="it said &#34;no&#34; &#38; left">/);
    assert.match(text, /<skipped message="&#60;none&#62;"\/>/);
    assert.ok(!text.includes("\u0001"));
  });

  it("are counted, and what was not tried is said", () => {
    assert.equal(summary([FAILED], 3), "0 passed, 1 failed, 0 skipped, 2 not tried: the run was ended");
  });
});
