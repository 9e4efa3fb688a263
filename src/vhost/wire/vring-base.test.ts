import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { u32 } from "./payload-arbitraries.fixture.js";
import { decodePackedBase, decodeSplitBase, encodePackedBase } from "./vring-base.js";

test("a split base is the low 16 bits", () => {
  assert.equal(decodeSplitBase(52), 52);
  assert.equal(decodeSplitBase(0xffff0007), 7);
});

// QEMU 7.2 with packed=on starts a ring with this base.
test("the base of a fresh packed ring has both wrap counters set", () => {
  assert.deepEqual(decodePackedBase(0x80008000), {
    availIndex: 0,
    availWrap: true,
    usedIndex: 0,
    usedWrap: true,
  });
});

test("every packed base survives decoding and encoding", () => {
  fc.assert(fc.property(u32, (num) => assert.equal(encodePackedBase(decodePackedBase(num)), num)));
});
