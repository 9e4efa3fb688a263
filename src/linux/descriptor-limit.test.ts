import assert from "node:assert/strict";
import { test } from "node:test";
import { connectionCeiling, descriptorLimit } from "./descriptor-limit.js";

const limits = (files: string) =>
  `Limit                     Soft Limit           Hard Limit           Units\n` +
  `Max processes             96000                96000                processes\n` +
  `Max open files            ${files.padEnd(20)} ${files.padEnd(20)} files\n`;

test("the soft limit of open files is read from the kernel's table", () => {
  assert.equal(descriptorLimit(limits("1024")), 1024);
  assert.equal(descriptorLimit(limits("unlimited")), Number.POSITIVE_INFINITY);
  assert.ok(descriptorLimit() > 0);
});

test("connections leave an eighth of the limit to others, 32 descriptors at least and 256 at most", () => {
  assert.equal(connectionCeiling(1024), 1024 - 128);
  assert.equal(connectionCeiling(64), 32);
  assert.equal(connectionCeiling(1_000_000), 1_000_000 - 256);
  assert.equal(connectionCeiling(Number.POSITIVE_INFINITY), Number.POSITIVE_INFINITY);
});
