import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SaidLines } from "./said-lines.js";

function linesOf(...pieces: (string | Buffer)[]): string[] {
  const lines: string[] = [];
  const said = new SaidLines(5, (line) => lines.push(line));
  for (const piece of pieces) said.write(Buffer.from(piece));
  said.end();
  return lines;
}

describe("lines of a command", () => {
  it("are whole wherever the stream was cut, the last one without its end, too", () => {
    assert.deepEqual(linesOf("a\nb", "c\n", "\nd"), ["a", "bc", "", "d"]);
    const [first, second] = [Buffer.from("é").subarray(0, 1), Buffer.from("é").subarray(1)];
    assert.deepEqual(linesOf(first, second, "\n"), ["é"]);
  });

  it("are cut at the longest length, and what follows it is dropped up to the end of the line", () => {
    assert.deepEqual(linesOf("12345", "6789", "0\nnext\n"), ["12345", "next"]);
    assert.deepEqual(linesOf("1234567\n1234567"), ["12345", "12345"]);
  });
});
