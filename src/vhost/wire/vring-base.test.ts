import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeSplitBase } from "./vring-base.js";

test("a split base is the low 16 bits", () => {
  assert.equal(decodeSplitBase(52), 52);
  assert.equal(decodeSplitBase(0xffff0007), 7);
});
