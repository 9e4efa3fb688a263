import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RangeTable } from "./range-table.js";

const bases = [0, 2 ** 32 - 24, 2 ** 53 - 48];

/** A table as a list, and looked up by trying each range. */
class NaiveTable {
  ranges: { start: number; end: number; target: number }[] = [];

  map(address: number): number {
    const range = this.ranges.find(({ start, end }) => address >= start && address < end);
    return range === undefined ? -1 : range.target + (address - range.start);
  }
}

test("a range table finds what a list scan finds, whatever was added and removed before", () => {
  const step = fc.record({
    isRemoval: fc.boolean(),
    start: fc.integer({ min: 0, max: 40 }),
    length: fc.integer({ min: 1, max: 8 }),
  });
  fc.assert(
    fc.property(fc.constantFrom(...bases), fc.array(step, { maxLength: 40 }), (base, steps) => {
      const table = new RangeTable(64);
      const naive = new NaiveTable();
      for (const { isRemoval, start: from, length } of steps) {
        const start = base + from;
        const end = start + length;
        if (isRemoval) {
          table.remove(start);
          naive.ranges = naive.ranges.filter((range) => range.start !== start);
        } else if (!naive.ranges.some((range) => range.start < end && start < range.end)) {
          table.insert(start, end, 1000 * from);
          naive.ranges.push({ start, end, target: 1000 * from });
        }
        assert.equal(table.count, naive.ranges.length);
        for (let address = base; address < base + 48; address++) {
          assert.equal(table.map(address), naive.map(address));
        }
      }
    }),
  );
});
