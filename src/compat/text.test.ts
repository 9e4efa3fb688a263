/** Breaking text into columns. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { columnsOf, counted, listed, padEnd, wrap } from "./text.js";

describe("wrapped text", () => {
  it("breaks between words and hangs under what stands before it", () => {
    assert.deepEqual(wrap("one two three four", 12, { first: " 1 " }), [" 1 one two", "   three", "   four"]);
    assert.deepEqual(wrap("one two three", 11, { first: "- ", further: "    " }), ["- one two", "    three"]);
  });

  it("is never wider than asked for, and loses no letter", () => {
    const word = fc.string({ unit: fc.constantFrom("a", "é", "…", "😀", "-"), minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(fc.array(word), fc.integer({ min: 8, max: 40 }), (words, width) => {
        const lines = wrap(words.join(" "), width, { first: ">> " });
        assert.ok(lines.every((line) => columnsOf(line) <= width));
        assert.equal(lines.join("").replaceAll(/[ >]/g, ""), words.join(""));
      }),
    );
  });

  it("shows what would disturb a terminal as escapes", () => {
    assert.deepEqual(wrap("a\u001b[31mred\nb", 80), ["a\\u001b[31mred\\u000ab"]);
  });

  it("of nothing is one line", () => {
    assert.deepEqual(wrap("", 10, { first: "  " }), [""]);
  });
});

it("a column is a character, not a unit of its encoding", () => {
  assert.equal(columnsOf("é😀…"), 3);
  assert.equal(padEnd("é😀", 4), "é😀  ");
});

it("lists and counts read as people write them", () => {
  assert.deepEqual([listed([]), listed(["a"]), listed(["a", "b", "c"])], ["", "a", "a, b and c"]);
  assert.deepEqual([counted(0, "cell"), counted(1, "cell")], ["0 cells", "1 cell"]);
});
