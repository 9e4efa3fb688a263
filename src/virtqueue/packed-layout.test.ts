import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Field } from "./layout.js";
import {
  advance,
  availableFlags,
  EVENT_SUPPRESS,
  EVENT_SUPPRESS_BYTES,
  FIRST_POSITION,
  indexOf,
  isAvailable,
  isPackedQueueSize,
  isUsed,
  PACKED_DESC,
  passesPackedEvent,
  placePackedQueue,
  retreat,
  usedFlags,
} from "./packed-layout.js";

function assertDense(layout: Record<string, Field>, bytes: number): void {
  let at = 0;
  for (const field of Object.values(layout)) {
    assert.equal(field.offset, at);
    at += field.bytes;
  }
  assert.equal(at, bytes);
}

const sizes = fc.integer({ min: 1, max: 32768 });

describe("the layout of a packed queue", () => {
  it("has no gap and no overlap", () => {
    assertDense(PACKED_DESC, 16);
    assertDense(EVENT_SUPPRESS, EVENT_SUPPRESS_BYTES);
  });

  it("takes any size from 1 to 32768", () => {
    for (const size of [1, 3, 100, 32768]) assert.ok(isPackedQueueSize(size));
    for (const size of [0, -1, 1.5, 32769]) assert.ok(!isPackedQueueSize(size));
  });

  it("places its areas aligned and apart", () => {
    assert.deepEqual(placePackedQueue(3), { desc: 0, driverEvent: 48, deviceEvent: 64, totalBytes: 80 });
    assert.equal(placePackedQueue(3, 4096).totalBytes, 3 * 4096);
  });

  it("counts laps in bit 15, forwards and back", () => {
    fc.assert(
      fc.property(sizes, fc.array(fc.nat(), { maxLength: 20 }), (size, steps) => {
        let position = FIRST_POSITION;
        let total = 0;
        for (const step of steps) {
          const count = step % (size + 1);
          const next = advance(position, count, size);
          assert.equal(retreat(next, count, size), position);
          position = next;
          total += count;
          assert.equal(indexOf(position), total % size);
          assert.equal((position & 0x8000) !== 0, Math.floor(total / size) % 2 === 0);
        }
      }),
    );
  });

  it("tells a descriptor's owner by its flags, on each lap", () => {
    for (const position of [FIRST_POSITION, 0]) {
      const other = position ^ 0x8000;
      assert.ok(isAvailable(availableFlags(position), position));
      assert.ok(!isAvailable(availableFlags(position), other));
      assert.ok(!isUsed(availableFlags(position), position));
      assert.ok(isUsed(usedFlags(position), position));
      assert.ok(!isUsed(usedFlags(position), other));
      assert.ok(!isAvailable(usedFlags(position), position));
      assert.ok(!isAvailable(usedFlags(position), other));
    }
  });

  it("passes an event exactly when one of the descriptors moved over is the one it names", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.nat(100),
        fc.nat(100),
        fc.nat(40),
        (size, from, by, to) => {
          const count = by % (size + 1);
          const old = advance(FIRST_POSITION, from % size, size);
          const event = advance(old, to % size, size);
          const passed = to % size < count;
          assert.equal(passesPackedEvent(event, advance(old, count, size), count, size), passed);
        },
      ),
    );
  });

  it("passes no event that names a descriptor the ring does not have", () => {
    for (const event of [7, 0x8007, 0x7fff, 0xffff])
      assert.ok(!passesPackedEvent(event, advance(FIRST_POSITION, 3, 7), 3, 7));
  });
});
