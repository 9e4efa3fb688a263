/** Driver and device against a naive queue: plain arrays of what was offered, taken and returned. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Comparison, stepArbitrary } from "./queue-model.js";
import { inOrder, makeRig, scattered } from "./queue-rig.js";

describe("split queue against a naive queue", () => {
  for (const eventIdx of [false, true]) {
    for (const indirect of [false, true]) {
      const name = `${eventIdx ? "with" : "without"} EVENT_IDX, ${indirect ? "with" : "without"} indirect tables`;
      it(`loses, doubles and reorders nothing, ${name}`, () => {
        const scenario = fc.record({
          sizeShift: fc.integer({ min: 0, max: 10 }),
          firstIndex: fc.oneof(fc.constant(0), fc.integer({ min: 65400, max: 65535 })),
          spread: fc.boolean(),
          shift: fc.constantFrom(0, 16, 4080),
          steps: fc.array(stepArbitrary(indirect), { minLength: 20, maxLength: 300 }),
        });
        fc.assert(
          fc.property(scenario, ({ sizeShift, firstIndex, spread, shift, steps }) => {
            const order = spread ? scattered : inOrder;
            const rig = makeRig({
              size: 2 ** sizeShift,
              eventIdx,
              indirect,
              firstIndex,
              order,
              shift,
              tableEntries: 8,
            });
            const comparison = new Comparison(rig);
            for (const step of steps) comparison.run(step);
          }),
          { numRuns: 200 },
        );
      });
    }
  }

  it("keeps going when its indexes wrap at 65536", () => {
    for (const size of [1, 8, 1024]) {
      const rig = makeRig({ size, eventIdx: true, order: scattered });
      const comparison = new Comparison(rig);
      let rounds = 0;
      for (let chains = 0; chains < 70_000; rounds++) {
        const batch = size === 1 ? 1 : 1 + (rounds % (size / 2));
        for (let i = 0; i < batch; i++)
          comparison.run({ kind: "add", readable: [10], writable: i % 2 === 0 ? [20] : [], inTable: true });
        comparison.run({ kind: "publish" });
        comparison.run({ kind: "pop", count: batch });
        for (let i = 0; i < batch; i++) comparison.run({ kind: "push", which: 0, written: i });
        comparison.run({ kind: "publishUsed" });
        comparison.run({ kind: "poll", count: batch });
        comparison.model.popped.length = 0;
        chains += batch;
      }
      assert.equal(rig.driver.freeDescriptors, size);
    }
  });

  it("works at the largest size", () => {
    const rig = makeRig({ size: 32768, tableEntries: 1, order: scattered, firstIndex: 40000 });
    const comparison = new Comparison(rig);
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 32768; i++)
        comparison.run({ kind: "add", readable: [1 + (i % 7)], writable: [], inTable: false });
      comparison.run({ kind: "add", readable: [1], writable: [], inTable: false });
      comparison.run({ kind: "publish" });
      comparison.run({ kind: "pop", count: 32768 });
      for (const chain of comparison.model.popped.splice(0)) {
        chain.written = chain.token % 100;
        rig.device.push(chain.head, chain.written);
        comparison.model.pushed.push(chain);
      }
      comparison.run({ kind: "publishUsed" });
      comparison.run({ kind: "poll", count: 32769 });
    }
    assert.equal(rig.driver.freeDescriptors, 32768);
  });
});
