import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MemoryError, type MemoryErrorCode } from "./errors.js";
import { checkRegion, mappingExtent, type RegionInput } from "./region.js";
import { GIB, MIB, PAGE } from "./testing.js";

const good: RegionInput = { gpa: 0n, size: 0x1000n, uva: 0x7f0000000000n, mmapOffset: 0n };

function refusal(change: Partial<RegionInput>): MemoryErrorCode | undefined {
  try {
    checkRegion({ ...good, ...change });
    return undefined;
  } catch (error) {
    assert.ok(error instanceof MemoryError);
    return error.code;
  }
}

test("a region may end exactly at 2^53, and no byte further", () => {
  assert.equal(refusal({ gpa: 2n ** 53n - 0x1000n }), undefined);
  assert.equal(refusal({ gpa: 2n ** 53n - 0xfffn }), "address-overflow");
  assert.equal(refusal({ uva: 2n ** 53n - 0xfffn }), "address-overflow");
  assert.equal(refusal({ mmapOffset: 2n ** 53n - 0xfffn }), "address-overflow");
});

test("a region whose end wraps around at 2^64 is refused", () => {
  assert.equal(refusal({ gpa: 2n ** 64n - 0x1000n, size: 0x1000n }), "address-overflow");
  assert.equal(refusal({ gpa: 2n ** 64n - 1n, size: 2n }), "address-overflow");
  assert.equal(refusal({ size: 2n ** 64n - 1n }), "address-overflow");
});

test("an empty region is refused, and the message names it", () => {
  assert.throws(() => checkRegion({ ...good, size: 0n }), {
    code: "empty",
    message: "region gpa=0x0 size=0x0 uva=0x7f0000000000 is empty",
  });
});

test("on hugetlbfs the mapping is rounded to huge pages on both sides", () => {
  assert.deepEqual(mappingExtent(3 * MIB, 4 * MIB, 2 * MIB), {
    fileOffset: 2 * MIB,
    length: 6 * MIB,
    leadBytes: MIB,
  });
  assert.deepEqual(mappingExtent(2 * GIB, 3 * GIB, GIB), {
    fileOffset: 2 * GIB,
    length: 3 * GIB,
    leadBytes: 0,
  });
});

test("a mapping holds its region, is of whole pages, and is no page longer than it must be", () => {
  const offset = fc.nat({ max: 8 * GIB });
  const size = fc.integer({ min: 1, max: 8 * GIB });
  fc.assert(
    fc.property(offset, size, fc.constantFrom(PAGE, 2 * MIB, GIB), (mmapOffset, bytes, pageBytes) => {
      const { fileOffset, length, leadBytes } = mappingExtent(mmapOffset, bytes, pageBytes);
      assert.equal(fileOffset % pageBytes, 0);
      assert.equal(length % pageBytes, 0);
      assert.equal(fileOffset + leadBytes, mmapOffset);
      assert.ok(leadBytes >= 0 && leadBytes < pageBytes);
      const tail = length - leadBytes - bytes;
      assert.ok(tail >= 0 && tail < pageBytes);
    }),
  );
});
