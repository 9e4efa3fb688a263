import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { median, pairedRatio, percentile, significant, smallestShare, spread } from "./statistics.js";

describe("the statistics of the bench", () => {
  it("takes the value in the middle, and the mean of two there", () => {
    assert.equal(median([3, 1, 10]), 3);
    assert.equal(median([4, 1, 2, 100]), 3);
    assert.equal(median([7]), 7);
    assert.ok(Number.isNaN(median([])));
  });

  it("leaves the values as they came", () => {
    const values = [3, 1, 2];
    median(values);
    percentile(values, 0.5);
    assert.deepEqual(values, [3, 1, 2]);
  });

  it("finds percentiles by nearest rank", () => {
    const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
    assert.equal(percentile(hundred, 0.99), 99);
    assert.equal(percentile(hundred, 0.5), 50);
    assert.equal(percentile(hundred, 1), 100);
    assert.equal(percentile(hundred, 0), 1);
    assert.equal(percentile([5], 0.99), 5);
  });

  it("sorts by size, not by digits", () => {
    assert.equal(median([9, 100, 10]), 10);
    assert.equal(percentile([9, 100, 10], 1), 100);
  });

  it("says how far values lie apart, relative to their median", () => {
    assert.equal(spread([10, 8, 12]), 0.4);
    assert.equal(spread([5]), 0);
  });

  it("says what share of the mean the smallest has", () => {
    assert.equal(smallestShare([1, 1, 1]), 1);
    assert.equal(smallestShare([1, 3]), 0.5);
  });

  it("compares round with round, so that a slow round harms nobody", () => {
    // In the second round the machine was half as fast: the ratio of the medians would say 1.5.
    assert.equal(pairedRatio([200, 100, 200], [100, 50, 100]), 2);
    assert.equal(pairedRatio([100, 300], [100, 100]), 2);
    assert.equal(pairedRatio([1, 2], []), undefined);
  });

  it("rounds to significant digits", () => {
    assert.equal(significant(1234.567, 4), 1235);
    assert.equal(significant(0.00123456, 3), 0.00123);
  });
});
