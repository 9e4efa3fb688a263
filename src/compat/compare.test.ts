/** What a change does to the cells, and how it reads. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { cell, inapplicable } from "./cells.fixture.js";
import { changeLines, restLines } from "./changes.js";
import { compareCells, worstCell } from "./compare.js";
import { cellName } from "./record.js";

const BEFORE = [
  cell("a/v/old", "works"),
  cell("b/v/old", "works"),
  cell("c/v/old", "faults"),
  cell("d/v/old", "refused"),
  inapplicable("e/v/old"),
  cell("f/v/old", "works"),
  inapplicable("g/v/old"),
];
const AFTER = [
  cell("a/v/new", "stalls", { reason: "r" }),
  cell("b/v/new", "exposes", { reason: "s" }),
  cell("c/v/new", "refused", { reason: "t", evidence: "executed" }),
  cell("d/v/new", "refused"),
  cell("e/v/new", "works"),
  inapplicable("f/v/new"),
  inapplicable("g/v/new"),
];

describe("a comparison", () => {
  const comparison = compareCells(BEFORE, AFTER);

  it("holds what got worse, worst first, and what got better, best first", () => {
    assert.deepEqual(
      comparison.worse.map(({ after }) => cellName(after)),
      ["b/v/new", "a/v/new"],
    );
    assert.deepEqual(
      comparison.better.map(({ before, after }) => [before.verdict, after.verdict]),
      [["faults", "refused"]],
    );
  });

  it("counts what stays, and does not call it worse that something does not apply", () => {
    const { unchanged, onlyBefore, onlyAfter, neither } = comparison;
    assert.deepEqual([unchanged, neither], [1, 1]);
    assert.deepEqual([onlyBefore, onlyAfter].flat().map(cellName), ["f/v/old", "e/v/new"]);
  });

  it("reads: each step once, with its reason and whom it concerns", () => {
    const options = { changed: "device", width: 60 } as const;
    assert.deepEqual(changeLines("Worse", comparison.worse, options), [
      "Worse: 2 combinations",
      "",
      "  works -> exposes: s",
      "    b with v",
      "",
      "  works -> stalls: r",
      "    a with v",
    ]);
    assert.deepEqual(changeLines("Better", comparison.better, options), [
      "Better: 1 combination",
      "",
      "  faults -> refused: t",
      "    c with v*",
    ]);
    assert.deepEqual(changeLines("Worse", [], options), []);
    assert.deepEqual(restLines(comparison, "old", "new", 200), [
      "1 combination keeps its verdict. 1 apply to old only. 1 apply to new only. 1 apply to neither.",
    ]);
  });

  it("of VMMs names devices beside the guests", () => {
    const { worse } = compareCells([cell("g/old/d", "works")], [cell("g/new/d", "crashes")]);
    assert.ok(changeLines("Worse", worse, { changed: "vmm", width: 80 }).includes("    g with d"));
  });

  it("puts what worked before what did not, however bad that has become", () => {
    const before = [
      cell("a/v/old", "refused"),
      cell("b/v/old", "works"),
      cell("c/v/old", "exposes"),
      cell("d/v/old", "faults"),
    ];
    const after = [
      cell("a/v/new", "exposes"),
      cell("b/v/new", "stalls"),
      cell("c/v/new", "crashes"),
      cell("d/v/new", "works"),
    ];
    const { worse, better } = compareCells(before, after);
    assert.deepEqual(
      [worse, better].map((changes) => changes.map((change) => change.after.guest).join()),
      ["b,a", "d,c"],
    );
  });

  it("without a combination that applies to both says so", () => {
    const nothing = compareCells([cell("a/v/old", "works")], [inapplicable("a/v/new")]);
    assert.match(restLines(nothing, "old", "new", 200)[0], /^No combination applies to both old and new, /);
  });

  it("needs the same combinations on both sides", () => {
    assert.throws(() => compareCells(BEFORE, []), /different cells/);
  });
});

it("the worst cell has the worst verdict, and of several the one best checked", () => {
  const contained = cell("c/v/d", "refused", { reason: "contained: the device says no" });
  assert.equal(worstCell([cell("a/v/d", "works"), inapplicable("b/v/d"), contained]), undefined);
  const cells = [
    cell("a/v/d", "stalls"),
    cell("b/v/d", "faults"),
    cell("c/v/d", "faults", { evidence: "executed" }),
  ];
  assert.equal(worstCell(cells)?.guest, "c");
});
