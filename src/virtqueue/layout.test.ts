import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  ALIGNMENT,
  AVAIL,
  availBytes,
  availRingOffset,
  DESC,
  DESC_BYTES,
  descBytes,
  type Field,
  isQueueSize,
  MOST_QUEUE_SIZE,
  passesEvent,
  placeSplitQueue,
  RING_START_BYTES,
  USED,
  USED_ELEMENT,
  USED_ELEMENT_BYTES,
  usedBytes,
  usedRingOffset,
} from "./layout.js";

function fillsWithoutGap(fields: Record<string, Field>, totalBytes: number): void {
  let end = 0;
  for (const [name, field] of Object.entries(fields)) {
    assert.equal(field.offset, end, `${name} follows its predecessor`);
    assert.equal(field.offset % Math.min(field.bytes, 8), 0, `${name} is naturally aligned`);
    end += field.bytes;
  }
  assert.equal(end, totalBytes);
}

describe("layout of a split virtqueue", () => {
  it("fills each structure without gap or overlap", () => {
    fillsWithoutGap(DESC, DESC_BYTES);
    fillsWithoutGap(AVAIL, RING_START_BYTES);
    fillsWithoutGap(USED, RING_START_BYTES);
    fillsWithoutGap(USED_ELEMENT, USED_ELEMENT_BYTES);
  });

  it("has the sizes and alignments of the table in 2.7 for every queue size", () => {
    assert.deepEqual(ALIGNMENT, { desc: 16, avail: 2, used: 4 });
    for (let size = 1; size <= MOST_QUEUE_SIZE; size *= 2) {
      assert.equal(descBytes(size), 16 * size);
      assert.equal(availBytes(size), 6 + 2 * size);
      assert.equal(usedBytes(size), 6 + 8 * size);
    }
  });

  it("leaves the event fields out where EVENT_IDX is not negotiated", () => {
    assert.equal(availBytes(256, false), availRingOffset(256));
    assert.equal(usedBytes(256, false), usedRingOffset(256));
  });

  it("takes powers of 2 up to 32768 as queue sizes", () => {
    for (const size of [1, 2, 128, 1024, 32768]) assert.equal(isQueueSize(size), true, String(size));
    for (const size of [0, -1, 3, 6, 65536, 0.5, Number.NaN, 2 ** 32 + 1])
      assert.equal(isQueueSize(size), false, String(size));
  });

  it("places the areas in order, aligned, without overlap", () => {
    for (const alignment of [16, 4096]) {
      for (let size = 1; size <= MOST_QUEUE_SIZE; size *= 2) {
        const place = placeSplitQueue(size, alignment);
        for (const offset of [place.desc, place.avail, place.used]) assert.equal(offset % alignment, 0);
        assert.ok(place.avail >= place.desc + descBytes(size));
        assert.ok(place.used >= place.avail + availBytes(size));
        assert.ok(place.totalBytes >= place.used + usedBytes(size));
      }
    }
  });
});

describe("passesEvent", () => {
  it("is true exactly if one of the steps ended right behind the event index", () => {
    for (const old of [0, 1, 100, 65530, 65535]) {
      for (const count of [1, 2, 10]) {
        for (let distance = -20; distance < 20; distance++) {
          const event = (old + distance) & 0xffff;
          let expected = false;
          for (let step = 0; step < count; step++) if (((old + step) & 0xffff) === event) expected = true;
          assert.equal(
            passesEvent(event, (old + count) & 0xffff, count),
            expected,
            `${old} ${count} ${event}`,
          );
        }
      }
    }
  });
});
