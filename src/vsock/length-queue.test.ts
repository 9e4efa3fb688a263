import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LengthQueue } from "./length-queue.js";

const length = fc.oneof(fc.nat(3), fc.nat(300), fc.nat(2 ** 31 - 1), fc.constantFrom(127, 128, 16383, 16384));

test("lengths come out as they went in, whatever goes in and out between them", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(length, fc.constant("shift" as const)), { maxLength: 400 }), (steps) => {
      const queue = new LengthQueue(4096);
      const model: number[] = [];
      for (const step of steps) {
        if (step !== "shift") {
          assert.equal(queue.push(step), true);
          model.push(step);
        } else if (model.length > 0) {
          assert.equal(queue.first, model.shift());
          queue.shift();
        }
        assert.equal(queue.count, model.length);
      }
      for (const expected of model) {
        assert.equal(queue.first, expected);
        queue.shift();
      }
    }),
  );
});

test("the lengths of messages that are not empty take no more bytes than the messages", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 70_000 }), { maxLength: 100 }), (lengths) => {
      const queue = new LengthQueue(lengths.reduce((sum, each) => sum + each, 0));
      for (const each of lengths) assert.equal(queue.push(each), true);
    }),
  );
});

test("a length that does not fit is refused, and those before it stay", () => {
  const queue = new LengthQueue(3);
  assert.deepEqual(
    [300, 300, 1, 0].map((each) => queue.push(each)),
    [true, false, true, false],
  );
  assert.equal(queue.first, 300);
  queue.shift();
  assert.equal(queue.first, 1);
  assert.equal(queue.push(300), true);
  queue.shift();
  assert.equal(queue.first, 300);
  assert.equal(queue.count, 1);
});
