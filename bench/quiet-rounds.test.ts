import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DISTURBED, missingRounds, quietRounds } from "./quiet-rounds.js";

const NOISE = DISTURBED + 0.1;

describe("rounds that count", () => {
  it("are all of them on a quiet machine", () => {
    assert.deepEqual(quietRounds([0, DISTURBED, 0.1], 3), [0, 1, 2]);
    assert.equal(missingRounds([0, DISTURBED, 0.1], 3), 0);
  });

  it("are the first quiet ones, whatever came between", () => {
    assert.deepEqual(quietRounds([0, NOISE, 0.2, 0.1, 0], 3), [0, 2, 3]);
    assert.equal(missingRounds([0, NOISE, 0.2], 3), 1);
  });

  it("are the least disturbed ones where quiet ones are too few", () => {
    assert.deepEqual(quietRounds([NOISE, 2, 0, NOISE + 0.1], 3), [0, 2, 3]);
    assert.equal(missingRounds([NOISE, 2, 0, NOISE + 0.1], 3), 2);
    assert.deepEqual(quietRounds([2], 3), [0]);
  });
});
