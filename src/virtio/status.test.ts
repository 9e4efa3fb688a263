import assert from "node:assert/strict";
import { test } from "node:test";
import { describeStatus } from "./status.js";

test("a status prints its bits by name", () => {
  assert.equal(describeStatus(0xfn), "0xf [ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK]");
  assert.equal(describeStatus(0x8n), "0x8 [FEATURES_OK]");
  assert.equal(describeStatus(0xc0n), "0xc0 [DEVICE_NEEDS_RESET FAILED]");
});

test("status 0 is a reset and unknown bits print as numbers", () => {
  assert.equal(describeStatus(0n), "0x0 [reset]");
  assert.equal(describeStatus(0x120n), "0x120 [0x120]");
});
