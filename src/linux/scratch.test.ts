import assert from "node:assert/strict";
import { test } from "node:test";
import { Scratch } from "./scratch.js";

test("a block that was given back is the next of its length, empty, and is given out once", () => {
  const first = new Scratch(5 * 4096);
  first.bytes.fill(7);
  first.release();
  first.release();
  const second = new Scratch(5 * 4096 - 10);
  const third = new Scratch(5 * 4096);
  assert.equal(second.address, first.address);
  assert.deepEqual([...second.bytes.subarray(0, 2)], [0, 0]);
  assert.notEqual(third.address, first.address);
});
