/** What a mail says, and in how many columns. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, it } from "node:test";
import fc from "fast-check";
import { CONFIG, cell, inapplicable } from "./cells.fixture.js";
import { compareCells } from "./compare.js";
import { MAIL_WIDTH } from "./mail.js";
import { changeMail, commandLines, introduction, matrixMail, type Side, storyMail } from "./mail-text.js";
import { columnsOf } from "./text.js";

const side = (label: string, ...source: string[]): Side => ({
  label,
  program: `the program ${label}`,
  source,
});
const OLD = side("linux-5.10", "Linux v5.10 drivers/vhost/vsock.c");
const NEW = side("linux-5.15", "Linux v5.15 drivers/vhost/vsock.c since e13a6915a03f");
const CONTEXT = {
  command: ["bit33", "compat", "--before", "linux-5.10", "--after", "linux-5.15"],
  version: "bit33 1.2.3",
};

const BEFORE = [
  cell("restricted-dma/crosvm-2022-07/linux-5.10", "works"),
  cell("plain/qemu/linux-5.10", "works"),
  cell("viommu/qemu/linux-5.10", "refused"),
];
const AFTER = [
  cell("restricted-dma/crosvm-2022-07/linux-5.15", "fails-to-start", {
    reason: `EFAULT ${"again and ".repeat(20)}`,
  }),
  cell("plain/qemu/linux-5.15", "works"),
  cell("viommu/qemu/linux-5.15", "works"),
];

function fits(lines: readonly string[]) {
  for (const line of lines) assert.ok(columnsOf(line) <= MAIL_WIDTH, line);
}

describe("a mail about a change", () => {
  const { subject, body } = changeMail(
    compareCells(BEFORE, AFTER),
    { before: OLD, after: NEW, changed: "device" },
    CONTEXT,
  );
  const text = body.join("\n");

  it("has a subject that names the regression, the part of the kernel and the worst case", () => {
    assert.equal(
      subject,
      "[REGRESSION] vhost-vsock: linux-5.15 fails to start with crosvm-2022-07 and a restricted-dma guest",
    );
  });

  it("says what changed, who breaks, what gets better", () => {
    assert.match(
      text,
      /^Of 3 combinations of guest and VMM, going from linux-5\.10 to linux-5\.15\nmakes 1 worse and 1 better\.\n/,
    );
    assert.match(text, /\n {2}before: the program linux-5\.10\n {2}after: {2}the program linux-5\.15\n/);
    assert.match(text, /\nWorse: 1 combination\n\n {2}works -> fails-to-start: EFAULT/);
    assert.match(text, /\n {4}restricted-dma with crosvm-2022-07\n/);
    assert.match(text, /\nBetter: 1 combination\n\n {2}refused -> works/);
  });

  it("tells the story of the worst cell, with its point of parting", () => {
    assert.match(
      text,
      /\nrestricted-dma\/crosvm-2022-07\/linux-5\.15: fails-to-start \(before:\s+works\),\s+since/,
    );
    assert.match(text, />> {2}HERE BELIEF AND FACT PART\n 5 {2}device {2}believes/);
  });

  it("ends with the one command that shows it again, and a line for the regression tracker", () => {
    assert.match(text, /\nTo reproduce:\n\n {2}bit33 compat --before linux-5\.10 --after linux-5\.15\n/);
    assert.equal(body.at(-1), "#regzbot introduced: e13a6915a03f");
  });

  it("keeps to 75 columns", () => fits(body));

  it("that makes nothing worse is no regression", () => {
    const good = changeMail(
      compareCells(
        AFTER,
        BEFORE.map((each) => ({ ...each, verdict: "works" as const })),
      ),
      { before: NEW, after: OLD, changed: "device" },
      CONTEXT,
    );
    assert.match(
      good.subject,
      /^vhost-vsock: linux-5\.15 -> linux-5\.10: linux-5\.10 works with crosvm-2022-07/,
    );
    assert.doesNotMatch(good.body.join("\n"), /regzbot/);
    const same = changeMail(
      compareCells(BEFORE, BEFORE),
      { before: OLD, after: OLD, changed: "device" },
      CONTEXT,
    );
    assert.equal(same.subject, "vsock: linux-5.10 -> linux-5.10 changes no verdict");
    fits(same.body);
  });
});

describe("what brought a change", () => {
  it("is the first commit that the new side names and the old one does not", () => {
    assert.equal(introduction(NEW, OLD), "e13a6915a03f");
    assert.equal(
      introduction(side("b", "since 4e7d00be2e13, then 40114fd26abc"), side("a", "4e7d00be2e13")),
      "40114fd26abc",
    );
  });

  it("is a range of versions if no commit is known", () => {
    assert.equal(introduction(side("linux-5.15"), OLD), "v5.10..v5.15");
    const patched = { ...side("mine (./mine.yaml)"), program: "Linux 6.1 with a patch" };
    assert.equal(introduction(patched, OLD), "v5.10..v6.1");
  });

  it("is nothing if neither is known: the tracker would look for it in vain", () => {
    assert.equal(introduction(side("my-vmm", "version 123456789012"), OLD), undefined);
  });
});

describe("a mail about one cell", () => {
  it("tells its story", () => {
    const user = { config: { ...CONFIG, transport: "vhost-user" } } as const;
    const { subject, body } = storyMail(cell("viommu/qemu-7.2/x", "exposes", user), NEW, CONTEXT);
    assert.equal(
      subject,
      "[BUG] vhost-user-vsock: x reaches withheld memory with qemu-7.2 and a viommu guest",
    );
    assert.match(body[0], /^viommu\/qemu-7\.2\/x: exposes, since/);
    assert.equal(body.at(-1), "#regzbot introduced: e13a6915a03f");
    fits(body);
  });

  it("that works blames nobody", () => {
    const { subject, body } = storyMail(cell("plain/qemu/linux-5.15", "works"), NEW, CONTEXT);
    assert.equal(subject, "vhost-vsock: linux-5.15 works with qemu and a plain guest");
    assert.doesNotMatch(body.join("\n"), /regzbot/);
  });
});

describe("a mail about a matrix", () => {
  it("says who breaks, each reason once, and the worst story", () => {
    const cells = [
      ...AFTER,
      cell("viommu/qemu/linux-6.12", "stalls", { reason: "a MISS" }),
      cell("viommu/qemu/other", "stalls", { reason: "a MISS", evidence: "proposed" }),
      inapplicable("a/b/c"),
    ];
    const { subject, body } = matrixMail(cells, () => NEW, CONTEXT);
    const text = body.join("\n");
    assert.equal(subject, "[BUG] vhost-vsock: 3 combinations of guest, VMM and device do not work");
    assert.match(
      text,
      /^6 combinations: 5 ran, 1 does not apply\.\n\n {2}works 2 · fails-to-start 1 · stalls 2\n/,
    );
    assert.match(text, /\n {2}stalls: a MISS\n {4}viommu with qemu: linux-6\.12, other\?\n/);
    assert.match(text, /\nviommu\/qemu\/linux-6\.12: stalls, since a MISS\.\n/);
    fits(body);
  });

  it("in which nothing is bad says so", () => {
    const { subject } = matrixMail([cell("a/b/c", "works")], () => undefined, CONTEXT);
    assert.equal(subject, "vsock: 1 combination: 1 ran, 0 do not apply, and none is bad");
  });
});

describe("the command of a mail", () => {
  it("is one line if it fits, else goes on behind a backslash", () => {
    assert.deepEqual(commandLines(["bit33", "compat"]), ["  bit33 compat"]);
    const lines = commandLines(["bit33", "compat", ...Array.from({ length: 9 }, () => "--guest=restricted")]);
    assert.ok(lines.length > 1 && lines.slice(0, -1).every((line) => line.endsWith(" \\")));
    fits(lines);
  });

  it("gives a shell the words back, whatever they hold and however long they are", () => {
    const word = fc.string({
      unit: fc.constantFrom("a", "/", " ", "'", '"', "\\", "$", "é"),
      maxLength: 200,
    });
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), (words) => {
        const lines = commandLines(["printf", "%s\\0", ...words]);
        fits(lines);
        const { stdout } = spawnSync("sh", ["-c", lines.join("\n")], { encoding: "utf8" });
        assert.deepEqual(stdout.split("\0").slice(0, -1), words);
      }),
      { numRuns: 40 },
    );
  });
});
