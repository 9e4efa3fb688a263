import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ResetQueue } from "./reset-queue.js";

describe("the queue of resets", () => {
  it("is first in, first out, drops what is beyond its capacity, and keeps all 32 bits", () => {
    const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
    const step = fc.option(fc.tuple(u32, u32, u32, fc.integer({ min: 0, max: 0xffff })));
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step), (capacity, steps) => {
        const queue = new ResetQueue(capacity);
        const model: number[][] = [];
        for (const pushed of steps) {
          if (pushed !== null) {
            assert.equal(queue.push(...pushed), model.length < capacity);
            if (model.length < capacity) model.push(pushed);
          } else if (model.length > 0) {
            assert.deepEqual([queue.sourceCid, queue.sourcePort, queue.guestPort, queue.type], model.shift());
            queue.shift();
          }
          assert.equal(queue.length, model.length);
        }
        queue.clear();
        assert.equal(queue.length, 0);
      }),
    );
  });
});
