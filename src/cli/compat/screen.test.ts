/** The terminal's width and colours, and how progress is told. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ansi, few, hasColours, redrawn, widthFrom } from "./screen.js";
import { PLACEHOLDER, senderFrom } from "./sender.js";

it("the width is the terminal's, else COLUMNS, else 100; never less than a table needs", () => {
  assert.deepEqual(
    [
      widthFrom(132, {}),
      widthFrom(20, {}),
      widthFrom(undefined, { COLUMNS: "180" }),
      widthFrom(undefined, { COLUMNS: "x" }),
      widthFrom(undefined, {}),
    ],
    [132, 60, 180, 100, 100],
  );
});

it("NO_COLOR and a dumb terminal have no colours", () => {
  assert.deepEqual(
    [
      hasColours({}),
      hasColours({ NO_COLOR: "" }),
      hasColours({ NO_COLOR: "1" }),
      hasColours({ TERM: "dumb" }),
    ],
    [true, true, false, false],
  );
  assert.equal(ansi("works", "ok"), "\u001b[32mok\u001b[0m");
});

describe("progress", () => {
  it("on a terminal is one line, drawn again when its percentage changes, and gone in the end", () => {
    const written: string[] = [];
    const progress = redrawn((text) => written.push(text));
    for (let done = 1; done <= 1000; done++) progress.tell(done, 1000);
    progress.end();
    assert.equal(written.length, 102);
    assert.equal(written[100], "\r\u001b[Krunning: 1000 of 1000 combinations (100 %)");
    assert.equal(written[101], "\r\u001b[K");
  });

  it("elsewhere is a line for each quarter of a long run, and nothing for a short one", () => {
    const lines: string[] = [];
    const tell = (total: number) => {
      const progress = few((line) => lines.push(line) > 0);
      for (let done = 1; done <= total; done++) progress.tell(done, total);
      progress.end();
    };
    tell(50);
    tell(400);
    assert.deepEqual(
      lines,
      [100, 200, 300, 400].map((done) => `bit33: ${done} of 400 combinations have run`),
    );
  });
});

it("the sender is who git would take, or is left to be put in", () => {
  assert.equal(
    senderFrom({ GIT_AUTHOR_NAME: "Ada", GIT_AUTHOR_EMAIL: "a@b.example", EMAIL: "x@y.example" }),
    "Ada <a@b.example>",
  );
  assert.equal(senderFrom({ EMAIL: "Ada L. <a@b.example>" }), "Ada L. <a@b.example>");
  assert.equal(senderFrom({ EMAIL: "ada@b.example" }), "ada <ada@b.example>");
  assert.equal(senderFrom({ EMAIL: "nonsense" }), PLACEHOLDER);
  assert.equal(senderFrom({ EMAIL: "Ada\nBcc: x <a@b.example>" }), PLACEHOLDER);
});
