/**
 * "Did you mean" against a definition of distance that nobody would run, but anybody can read.
 */

import assert from "node:assert/strict";
import { it } from "node:test";
import fc from "fast-check";
import { didYouMean, editDistance, nearest } from "./suggest.js";

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
