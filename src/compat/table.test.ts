/** The table as text: what stands where, and how wide. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CONFIG, cell, inapplicable } from "./cells.fixture.js";
import type { Cell } from "./record.js";
import { countOfCells, table, verdictCounts } from "./table.js";
import { columnsOf } from "./text.js";

const EFAULT = "SET_RUNNING fails with -EFAULT";
const MISS = "a MISS that nobody answers";
const user = { config: { ...CONFIG, transport: "vhost-user" } } as const;

const CELLS: readonly Cell[] = [
  cell("plain/crosvm/linux-5.10", "works", { evidence: "executed" }),
  cell("plain/crosvm/linux-5.15", "fails-to-start", { reason: EFAULT }),
  inapplicable("plain/crosvm/bit33-auto", "crosvm has ioctls only"),
  inapplicable("plain/qemu/linux-5.10", "qemu has vhost-user only"),
  inapplicable("plain/qemu/linux-5.15", "qemu has vhost-user only"),
  cell("plain/qemu/bit33-auto", "works", { ...user, evidence: "proposed" }),
  inapplicable("viommu/crosvm/linux-5.10", "crosvm has no vIOMMU"),
  inapplicable("viommu/crosvm/linux-5.15", "crosvm has no vIOMMU"),
  inapplicable("viommu/crosvm/bit33-auto", "crosvm has ioctls only"),
  inapplicable("viommu/qemu/linux-5.10", "qemu has vhost-user only"),
  inapplicable("viommu/qemu/linux-5.15", "qemu has vhost-user only"),
  cell("viommu/qemu/bit33-auto", "stalls", { ...user, reason: MISS }),
];

const lines = (width = 100, cells = CELLS) => table(cells, { width });

describe("the table", () => {
  it("has a block a guest, a grid a transport, and each reason once beneath", () => {
    assert.deepEqual(lines().slice(0, -3), [
      "Guest plain",
      "",
      "  over ioctls  linux-5.10  linux-5.15",
      "  crosvm       works*      no-start 1",
      "",
      "  over vhost-user  bit33-auto",
      "  qemu             works?",
      "",
      `  1 no-start  ${EFAULT}`,
      "",
      "Guest viommu",
      "",
      "  over vhost-user  bit33-auto",
      "  qemu             stalls 1",
      "",
      `  1 stalls  ${MISS}`,
      "",
      "  · crosvm: this VMM has no vIOMMU",
    ]);
    assert.match(lines().slice(-2).join(" "), /^\* each of the three was checked .* · does not apply\.$/);
  });

  it("breaks a long name above a narrow column behind its dashes", () => {
    const shown = lines(80, [cell("g/v/some-device-9", "works"), cell("g/v/d", "works")]);
    assert.deepEqual(shown.slice(2, 5), [
      "               some-",
      "  over ioctls  device-9  d",
      "  v            works     works",
    ]);
  });

  it("shows a combination that does not apply as a point, among ones that do, with its reason", () => {
    const some = [
      cell("g/v/d1", "works"),
      inapplicable("g/v/d2", "d2 wants more"),
      cell("g/w/d1", "works"),
      cell("g/w/d2", "works"),
    ];
    const shown = lines(100, some);
    assert.ok(shown.includes("  v            works  ·"), shown.join("\n"));
    assert.ok(shown.includes("  · v with d2: d2 wants more"), shown.join("\n"));
  });

  it("gives equal verdicts for equal reasons one number", () => {
    const some = ["a", "b", "c"].map((device) =>
      cell(`g/v/${device}`, "faults", { reason: device === "c" ? "y" : "x" }),
    );
    const shown = lines(100, some).join("\n");
    assert.match(shown, /faults 1 {2}faults 1 {2}faults 2/);
    assert.match(shown, /1 faults {2}x\n {2}2 faults {2}y/);
  });

  it("puts columns that do not fit into a grid of their own, and is never wider than asked for", () => {
    const devices = Array.from({ length: 14 }, (_, index) => `some-device-${index}`);
    const many = ["one", "a-vmm-of-some-length"].flatMap((vmm) =>
      devices.map((device) =>
        cell(`guest/${vmm}/${device}`, "fails-to-start", { reason: `${MISS}, `.repeat(9) + device }),
      ),
    );
    for (const width of [60, 75, 100, 200]) {
      const shown = table(many, { width });
      for (const line of shown) assert.ok(columnsOf(line) <= width, line);
      const grids = shown.filter((line) => line.startsWith("  one ")).length;
      assert.equal(grids > 1, width < 200, `${grids} grids on ${width} columns`);
      assert.equal(shown.join("\n").match(/no-start \d+/g)?.length, 28);
    }
  });

  it("introduces a guest, and hands each piece of text to whoever colours it", () => {
    const tones = new Set<string>();
    const shown = table(CELLS, {
      width: 100,
      sentenceOf: (guest) => `the ${guest} one`,
      paint: (tone, text) => {
        tones.add(tone);
        return `<${text}>`;
      },
    });
    assert.equal(shown[0], "<Guest plain: the plain one>");
    assert.ok(shown.includes("  crosvm       <works*>      <no-start 1>"));
    assert.ok(shown.includes(`  1 <no-start>  ${EFAULT}`));
    assert.deepEqual([...tones].sort(), ["fails-to-start", "faint", "heading", "stalls", "works"]);
  });

  it("shows nothing that could reach the terminal as an escape sequence", () => {
    const shown = table([cell("g/v/d", "faults", { reason: "a\u001b[2Jb" })], { width: 80 }).join("");
    assert.ok(!shown.includes("\u001b") && shown.includes("a\\u001b[2Jb"));
  });
});

it("verdicts are counted best first, without those that do not occur", () => {
  assert.deepEqual(verdictCounts(CELLS, 80), ["works 2 · fails-to-start 1 · stalls 1"]);
  assert.deepEqual(
    verdictCounts(CELLS, 30, (_, text) => `<${text}>`),
    ["<works 2> · <fails-to-start 1> ·", "<stalls 1>"],
  );
  assert.equal(countOfCells(CELLS), "12 combinations: 4 ran, 8 do not apply");
});
