/**
 * "Did you mean" against a definition of distance that nobody would run, but anybody can read.
 */

import assert from "node:assert/strict";
import { it } from "node:test";
import fc from "fast-check";
import { didYouMean, editDistance, nearest, nearWords } from "./suggest.js";

/** The recursive definition of optimal string alignment. */
function naiveDistance(from: string, to: string): number {
  if (from === "" || to === "") return from.length + to.length;
  const [a, b] = [from.slice(0, -1), to.slice(0, -1)];
  const same = from.at(-1) === to.at(-1) ? 0 : 1;
  const distances = [naiveDistance(a, b) + same, naiveDistance(a, to) + 1, naiveDistance(from, b) + 1];
  if (from.length > 1 && to.length > 1 && from.at(-1) === to.at(-2) && from.at(-2) === to.at(-1)) {
    distances.push(naiveDistance(from.slice(0, -2), to.slice(0, -2)) + 1);
  }
  return Math.min(...distances);
}

it("the distance is that of its recursive definition", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 5 });
  fc.assert(fc.property(word, word, (from, to) => editDistance(from, to) === naiveDistance(from, to)));
});

it("a swap of two letters is one slip", () => {
  assert.equal(editDistance("sokcet", "socket"), 1);
});

it("the nearest word is suggested, and none for a word that is like none", () => {
  const known = ["socket", "groups", "uds-path"];
  assert.equal(nearest("sockte", known), "socket");
  assert.equal(nearest("group", known), "groups");
  assert.equal(nearest("colour", known), undefined);
  assert.equal(didYouMean("udspath", known), "; did you mean uds-path?");
  assert.equal(didYouMean("x", known), "");
});

it("all near words are slips of what was typed, or have it in them, the nearest first", () => {
  const known = ["qemu-10.0", "qemu-7.2", "crosvm-2022-07", "crosvm-2022-08"];
  assert.deepEqual(nearWords("qemu-7.3", known), ["qemu-7.2"]);
  assert.deepEqual(nearWords("qemu", known), ["qemu-7.2", "qemu-10.0"]);
  assert.deepEqual(nearWords("crosvm-2022-07", known), ["crosvm-2022-07", "crosvm-2022-08"]);
  assert.deepEqual(nearWords("firecracker", known), []);
});
