import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodePackedBase, decodeSplitBase, encodePackedBase, FIRST_PACKED_BASE } from "./vring-base.js";

test("a split base is the low 16 bits", () => {
  assert.equal(decodeSplitBase(52), 52);
  assert.equal(decodeSplitBase(0xffff0007), 7);
});

test("a packed base has an index and a wrap counter for each side", () => {
  assert.deepEqual(decodePackedBase(0x8005_0007), { availPosition: 7, usedPosition: 0x8005 });
  assert.deepEqual(decodePackedBase(FIRST_PACKED_BASE), { availPosition: 0x8000, usedPosition: 0x8000 });
  const half = fc.integer({ min: 0, max: 0xffff });
  fc.assert(
    fc.property(half, half, (availPosition, usedPosition) => {
      const num = encodePackedBase(availPosition, usedPosition);
      assert.ok(num >= 0 && num < 2 ** 32);
      assert.deepEqual(decodePackedBase(num), { availPosition, usedPosition });
    }),
  );
});
