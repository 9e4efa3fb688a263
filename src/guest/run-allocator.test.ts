import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { RunAllocator } from "./run-allocator.js";

const UNITS = 40;

/** One bit a unit, searched from the start. */
class NaiveAllocator {
  readonly taken: boolean[] = new Array(UNITS).fill(false);

  take(count: number, alignment: number): number {
    for (let first = 0; first + count <= UNITS; first += alignment) {
      if (this.taken.slice(first, first + count).some(Boolean)) continue;
      this.taken.fill(true, first, first + count);
      return first;
    }
    return -1;
  }

  give(first: number, count: number): void {
    this.taken.fill(false, first, first + count);
  }
}

describe("RunAllocator", () => {
  it("takes and gives like a naive bitmap, for any sequence", () => {
    const step = fc.record({
      count: fc.integer({ min: 1, max: 9 }),
      alignment: fc.constantFrom(1, 2, 4),
      giveBack: fc.nat(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const naive = new NaiveAllocator();
        const allocator = new RunAllocator(UNITS);
        const held: [number, number][] = [];
        for (const { count, alignment, giveBack } of steps) {
          const expected = naive.take(count, alignment);
          assert.equal(allocator.take(count, alignment), expected);
          if (expected >= 0) held.push([expected, count]);
          if (giveBack % 3 === 0 && held.length > 0) {
            const [[first, length]] = held.splice(giveBack % held.length, 1);
            naive.give(first, length);
            allocator.give(first, length);
          }
          assert.equal(allocator.free, naive.taken.filter((taken) => !taken).length);
        }
      }),
    );
  });

  it("refuses to take back what is free already", () => {
    const allocator = new RunAllocator(10);
    const first = allocator.take(4);
    allocator.give(first, 4);
    assert.throws(() => allocator.give(first, 4), /were not all taken/);
  });
});
