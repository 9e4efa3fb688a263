import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { describe, it } from "node:test";
import fc from "fast-check";
import { errno } from "../linux/errors.js";
import { IovecList } from "../linux/iovec.js";
import { Scratch } from "../linux/scratch.js";
import { setSendBuffer, socketPair } from "../linux/unix-socket.js";
import { SpillRing } from "./spill-ring.js";
import { HostEnd } from "./switch-rig.js";

const source = new Scratch(64 * 1024);
for (let index = 0; index < source.length; index++) source.bytes[index] = (index * 31 + (index >>> 8)) & 0xff;

function withRing(capacity: number, use: (ring: SpillRing, fd: number, reader: HostEnd) => void): void {
  const [writer, reader] = socketPair();
  setSendBuffer(writer, 1);
  const ring = new SpillRing(capacity);
  try {
    use(ring, writer, new HostEnd(reader));
  } finally {
    ring.unmap();
    closeSync(writer);
    closeSync(reader);
  }
}

describe("the spill ring", () => {
  it("gives back what was put in, in order, whatever is put in and taken out when", () => {
    const step = fc.record({
      from: fc.integer({ min: 0, max: 32_768 }),
      bytes: fc.integer({ min: 1, max: 6000 }),
      drain: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.constantFrom(4096, 5000, 12_289), fc.array(step, { maxLength: 60 }), (capacity, steps) =>
        withRing(capacity, (ring, fd, reader) => {
          let expected = Buffer.alloc(0);
          for (const { from, bytes, drain } of steps) {
            const fits = Math.min(bytes, capacity - ring.length);
            if (fits > 0) ring.append(source.address + from, fits);
            expected = Buffer.concat([expected, source.bytes.subarray(from, from + fits)]);
            if (!drain) continue;
            const before = ring.length;
            const written = ring.length === 0 ? 0 : ring.writeTo(fd);
            assert.equal(ring.length, before - Math.max(written, 0));
            const got = reader.readAll();
            assert.ok(got.equals(expected.subarray(0, got.length)));
            expected = expected.subarray(got.length);
          }
          while (ring.length > 0) {
            ring.writeTo(fd);
            const got = reader.readAll();
            assert.ok(got.equals(expected.subarray(0, got.length)));
            expected = expected.subarray(got.length);
          }
          assert.equal(expected.length, 0);
        }),
      ),
      { numRuns: 50 },
    );
  });

  it("takes the rest of a batch, from any byte of it on", () => {
    const batch = new IovecList(4);
    for (const [from, bytes] of [
      [0, 3],
      [100, 1],
      [50, 7],
    ])
      batch.push(source.address + from, bytes);
    const whole = Buffer.concat(
      [
        [0, 3],
        [100, 101],
        [50, 57],
      ].map(([from, to]) => source.bytes.subarray(from, from === 0 ? 3 : to)),
    );
    for (let skip = 0; skip <= whole.length; skip++) {
      withRing(4096, (ring, fd, reader) => {
        ring.appendBatch(batch, skip);
        assert.equal(ring.length, whole.length - skip);
        if (ring.length > 0) ring.writeTo(fd);
        assert.ok(reader.readAll().equals(whole.subarray(skip)));
      });
    }
  });

  it("refuses more than it holds: credit has let through too much, which is our own mistake", () => {
    withRing(4096, (ring) => {
      ring.append(source.address, 4000);
      assert.throws(() => ring.append(source.address, 97), RangeError);
    });
  });

  it("reports a socket that is closed", () => {
    withRing(4096, (ring, fd, reader) => {
      reader.endReading();
      ring.append(source.address, 10);
      assert.equal(ring.writeTo(fd), -errno.EPIPE);
      assert.equal(ring.length, 10);
    });
  });
});
