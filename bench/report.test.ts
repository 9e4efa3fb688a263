import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { root } from "../test/vm/paths.js";
import { makeRecord } from "./record.js";
import { keptResults, reportOf } from "./report.js";
import { ReportError, readResults } from "./report-lines.js";
import { generatedPart, makeReport, PAGE, replaceGenerated } from "./report-page.js";

const MACHINE = {
  cpu: "A processor",
  cores: 2,
  isVirtual: false,
  memoryMiB: 1024,
  kernel: "6.12.0",
  governor: null,
  node: "v20.0.0",
  peer: "a-peer 1.0",
  date: "2026-01-01T00:00Z",
  commit: null,
  hasChanges: null,
  loadBefore: 0,
  note: null,
};
const MACHINE_LINE = JSON.stringify({ machine: MACHINE });
const REPEATED = [100, 100, 100];

function line(ours: number): string {
  const values = { ours: REPEATED.map(() => ours), peer: REPEATED, floor: REPEATED };
  return JSON.stringify(makeRecord("g2h-4k", values, { buffers: { ours: 1048576, peer: 65536 } }));
}

function refused(text: string): { readonly code: string; readonly message: string } {
  try {
    readResults([{ name: "a.jsonl", text }]);
  } catch (error) {
    assert.ok(error instanceof ReportError);
    return { code: error.code, message: error.message };
  }
  assert.fail("it was taken");
}

describe("the report on kept results", () => {
  const report = reportOf(keptResults());
  const page = readFileSync(join(root, "docs", PAGE), "utf8");

  it(`is what docs/${PAGE} has`, () => {
    assert.equal(generatedPart(page), report.text);
    for (const [name, svg] of report.charts)
      assert.equal(readFileSync(join(root, "docs", name), "utf8"), svg, name);
  });

  it("draws charts that are complete and well-formed, and shows each", () => {
    assert.equal(report.charts.size, 3);
    for (const [name, svg] of report.charts) {
      assert.ok(report.text.includes(`](${name})`), name);
      const open: string[] = [];
      for (const [, closing, element, isEmpty] of svg.matchAll(/<(\/?)([a-z]+)(?:\s[^<>]*?)?(\/?)>/g)) {
        if (closing !== "") assert.equal(open.pop(), element, name);
        else if (isEmpty === "") open.push(element);
      }
      assert.deepEqual(open, [], name);
      assert.doesNotMatch(svg, /NaN|undefined|Infinity/);
    }
  });

  it("leaves nothing to be written by hand", () => {
    assert.doesNotMatch(page, /Hand-written|@@/);
  });
});

describe("a report", () => {
  it("says of each row which bar it meets", () => {
    const textOf = (ours: number): string =>
      makeReport(readResults([{ name: "a.jsonl", text: `${MACHINE_LINE}\n${line(ours)}\n` }])).text;
    const rowOf = (text: string): string =>
      text.split("\n").find((each) => each.startsWith("| `g2h-4k` | guest to host")) ?? "";
    assert.match(rowOf(textOf(300)), /\| 3× .*\| ≥ 2× \| 3× \| ≥ 0\.85× \|/);
    assert.match(rowOf(textOf(150)), /\*\*MISSED\*\*: the peer[;| ]/);
    assert.match(textOf(150), /Missed: `g2h-4k` \(the peer\)/);
    assert.match(textOf(50), /\*\*MISSED\*\*: the peer, the floor/);
    assert.match(textOf(50), /The peer does better in: `g2h-4k`/);
  });

  it("refuses a line that it does not know, and names its place", () => {
    assert.deepEqual(refused(`${MACHINE_LINE}\nnonsense`).code, "not-json");
    assert.match(
      refused(`${MACHINE_LINE}\n\n{"row":"g2h-5k"}`).message,
      /^a\.jsonl:3: no row is called "g2h-5k"/,
    );
    assert.equal(refused(`${MACHINE_LINE}\n{"curve":"bent"}`).code, "unknown-line");
    assert.deepEqual(
      refused(`${MACHINE_LINE}\n${line(1).replace('"rounds":3', '"rounds":"3"')}`).code,
      "bad-field",
    );
    assert.match(
      refused(`${MACHINE_LINE}\n${line(1)}\n${line(2)}`).message,
      /^a\.jsonl:3: .*there already, at a\.jsonl:2/,
    );
    assert.equal(refused(line(1)).code, "no-machine");
  });

  it("takes the place between the two markers of a page, and of no other", () => {
    const page = readFileSync(join(root, "docs", PAGE), "utf8");
    const replaced = replaceGenerated(page, "new");
    assert.equal(generatedPart(replaced), "new");
    assert.equal(replaceGenerated(replaced, generatedPart(page)), page);
    assert.throws(() => replaceGenerated("# No markers", "new"), /has to have the line/);
    assert.throws(() => replaceGenerated(page + page, "new"), /once each/);
  });
});
