/** Arbitrary values of single keys, as profiles have them. */
import fc from "fast-check";
import { FEATURE_WORD_BITS, mask, maskOf } from "../../virtio/index.js";
import type { Evidence, ProfileHead } from "../head.js";

/** Any text of one line, with what YAML takes for its own in it. */
export const text: fc.Arbitrary<string> = fc
  .oneof(
    fc.string({ unit: "grapheme", minLength: 1 }),
    fc.stringMatching(/^[-:#&*!|>'"%@`,[\]{}~ a-z0-9?.]+$/),
    fc.constantFrom("null", "true", "0x10", "1e3", "~", "- a", "a: b", "a #b", "---", "..."),
    fc.lorem({ maxCount: 40 }),
  )
  .filter((each) => !/[\p{Cc}\p{Zl}\p{Zp}]/u.test(each));

export const bit = fc.nat({ max: FEATURE_WORD_BITS - 1 });

/** Few bits, or many in a row, or any. */
export const word: fc.Arbitrary<bigint> = fc.oneof(
  fc.uniqueArray(bit, { maxLength: 8 }).map((bits) => maskOf(...bits)),
  fc.tuple(bit, bit).map(([a, b]) => mask(Math.max(a, b) + 1) - mask(Math.min(a, b))),
  fc.bigInt({ min: 0n, max: mask(FEATURE_WORD_BITS) - 1n }),
);

export const head: fc.Arbitrary<ProfileHead> = fc.record({
  name: fc.stringMatching(/^[a-z0-9][a-z0-9.-]{0,20}$/),
  program: text,
  summary: text,
  source: fc.array(text, { minLength: 1, maxLength: 3 }),
  evidence: fc.constantFrom<Evidence>("executed", "derived", "proposed"),
});
