import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bitsOf, FEATURE_WORD_BITS, has, hex, mask, maskOf, without } from "./bits.js";

const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const bit = fc.integer({ min: 0, max: FEATURE_WORD_BITS - 1 });

test("a word is exactly the mask of its bits", () => {
  fc.assert(fc.property(word, (w) => assert.equal(maskOf(...bitsOf(w)), w)));
});

test("has agrees with the binary digits of the word", () => {
  fc.assert(
    fc.property(word, bit, (w, b) => {
      const digits = w.toString(2).padStart(FEATURE_WORD_BITS, "0");
      assert.equal(has(w, b), digits[FEATURE_WORD_BITS - 1 - b] === "1");
    }),
  );
});

test("without clears one bit and touches no other", () => {
  fc.assert(
    fc.property(word, bit, (w, b) => {
      assert.equal(has(without(w, b), b), false);
      assert.equal(without(w, b) | mask(b), w | mask(b));
    }),
  );
});

test("bit 63 is positive and hexadecimal is lower case", () => {
  assert.equal(hex(mask(63)), "0x8000000000000000");
  assert.equal(hex(0xabc), "0xabc");
});
