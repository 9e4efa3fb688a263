import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type HandshakeLine, LONGEST_LINE_BYTES, parseConnectLine } from "./handshake.js";

/** What stands behind it in the memory was there before, and is no part of what came. */
function parse(text: string): HandshakeLine {
  const bytes = Buffer.from(`${text}CONNECT 1\n`, "latin1");
  return parseConnectLine(bytes, bytes.length - 10);
}

describe("the CONNECT line", () => {
  it("is incomplete at every split before its newline, and whole with whatever follows", () => {
    for (const line of ["CONNECT 1024\n", "connect 0\r\n", "CoNnEcT  4294967294 \n"]) {
      for (let bytes = 0; bytes < line.length; bytes++) {
        assert.deepEqual(parse(line.slice(0, bytes)), { kind: "incomplete" });
      }
      for (const following of ["", "GET / HTTP/1.1\n", "\n", "CONNECT 5\n", "\0\xff"]) {
        const parsed = parse(line + following);
        assert.equal(parsed.kind, "port");
        assert.equal(parsed.kind === "port" && parsed.lineBytes, line.length);
      }
    }
  });

  it("takes any port that can be listened on, in any case of the word", () => {
    const casing = fc.array(fc.boolean(), { minLength: 7, maxLength: 7 });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffff_fffe }), casing, (port, upper) => {
        const word = [..."connect"]
          .map((letter, index) => (upper[index] ? letter.toUpperCase() : letter))
          .join("");
        const parsed = parse(`${word} ${port}\n`);
        const bytes = word.length + `${port}`.length + 2;
        assert.deepEqual(parsed, { kind: "port", port, lineBytes: bytes, receivedBytes: bytes });
      }),
    );
  });

  for (const line of [
    "",
    "CONNECT",
    "CONNECT ",
    "CONNECT1024",
    "CONNECT 4294967295",
    "CONNECT 4294967296",
    "CONNECT 99999999999",
    "CONNECT -1",
    "CONNECT 0x50",
    "CONNECT 80 81",
    "CONNECT 8o",
    "CONNECT 1e3",
    "GET / HTTP/1.1\r",
    "OK 1024",
    "\0CONNECT 1024",
  ]) {
    it(`is refused with a reason as ${JSON.stringify(line)}`, () => {
      const parsed = parse(`${line}\n`);
      assert.equal(parsed.kind, "invalid");
      assert.ok(parsed.kind === "invalid" && parsed.reason.length > 0 && !parsed.reason.includes("\n"));
    });
  }

  it("is refused when no newline comes within its longest length", () => {
    assert.equal(parse("C".repeat(LONGEST_LINE_BYTES - 1)).kind, "incomplete");
    assert.equal(parse("C".repeat(LONGEST_LINE_BYTES)).kind, "invalid");
  });

  it("never throws, whatever arrives", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 80 }), (text) => {
        parse(text);
      }),
    );
  });
});
