import assert from "node:assert/strict";
import { test } from "node:test";
import { layoutFaults } from "../../virtio/index.js";
import { HEADER } from "./header.js";
import { IOTLB, MEM_REGION, PAYLOAD_LAYOUTS, VRING_ADDR } from "./layouts.js";

for (const layout of [HEADER, ...PAYLOAD_LAYOUTS]) {
  test(`${layout.cName} has no gap and no overlap, and its fields add up to its ${layout.byteLength} bytes`, () => {
    assert.deepEqual(layoutFaults(layout), []);
  });
}

// Sizes and offsets as gcc compiles them on x86-64 from linux/vhost_types.h.
test("the kernel's structures have the kernel's sizes and offsets", () => {
  assert.deepEqual([VRING_ADDR.byteLength, IOTLB.byteLength, MEM_REGION.byteLength], [40, 32, 32]);
  const offsets = Object.fromEntries(IOTLB.fields.map((field) => [field.name, field.offset]));
  assert.deepEqual(offsets, { iova: 0, size: 8, userAddress: 16, perm: 24, type: 25, _tail: 26 });
});
