import assert from "node:assert/strict";
import { it } from "node:test";
import { classOf } from "./address-class.js";

const REGIONS = [
  { guestAddress: 0n, size: 0x1000n, userAddress: 0x7000_0000n, mmapOffset: 0n },
  { guestAddress: 0x10_0000n, size: 0x1000n, userAddress: 0x800n, mmapOffset: 0x1000n },
];

it("a ring address is judged by the ranges of the memory table alone", () => {
  assert.equal(classOf(0x7000_0fffn, REGIONS), "user");
  assert.equal(classOf(0x7000_1000n, REGIONS), "iova");
  assert.equal(classOf(0x10_0000n, REGIONS), "guest-physical");
  assert.equal(classOf(0x900n, REGIONS), "user-or-guest-physical");
  assert.equal(classOf(0xffff_ffff_ffff_f000n, REGIONS), "iova");
  assert.equal(classOf(0n, []), "iova");
});
