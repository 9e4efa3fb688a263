/** Which VMs count as siblings. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { siblingsOf } from "./siblings.js";

const vm = (guestCid: number, ...groups: string[]) => ({ guestCid, groups });

it("VMs without a group in common, or with the default one only, are no siblings", () => {
  assert.equal(siblingsOf([]), undefined);
  assert.equal(siblingsOf([vm(3, "a", "b")]), undefined);
  assert.equal(siblingsOf([vm(3, "a"), vm(4, "b"), vm(5, "c", "d")]), undefined);
  assert.equal(siblingsOf([vm(3, "default"), vm(4, "default")]), undefined);
  assert.equal(siblingsOf([vm(3, "default", "a"), vm(4, "default", "b")]), undefined);
});

it("VMs with a group of their own in common are, and each is named once", () => {
  const configs = [vm(3, "a", "b"), vm(4, "default"), vm(5, "c", "b", "a"), vm(6, "c"), vm(7, "d")];
  assert.deepEqual(siblingsOf(configs), { groups: ["a", "b", "c"], cids: [3, 5, 6] });
});
