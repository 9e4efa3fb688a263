import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import fc from "fast-check";
import { HEADER_BYTES } from "../vsock/header.js";
import { JOINED, LINUX, LINUX_BEFORE_6_3, TORN } from "./framing.js";
import { GuestRam } from "./guest-ram.js";
import { LARGEST_PAYLOAD_BYTES, makeReceiveSlots, TransmitSlot } from "./packet-slots.js";

const FRAMINGS = [LINUX, LINUX_BEFORE_6_3, JOINED, TORN];
const ram = new GuestRam({ slots: [{ gpa: 0, bytes: 8 * 2 ** 20 }] });
after(() => ram.close());

describe("framings", () => {
  for (const framing of FRAMINGS)
    it(`cut any packet into buffers that make it up again: ${framing.name}`, () => {
      const slot = new TransmitSlot(
        ram,
        ram.allocate(HEADER_BYTES + LARGEST_PAYLOAD_BYTES).gpa,
        LARGEST_PAYLOAD_BYTES,
      );
      fc.assert(
        fc.property(fc.integer({ min: 0, max: LARGEST_PAYLOAD_BYTES }), (payloadBytes) => {
          slot.payload.fill(7, 0, payloadBytes);
          slot.header.setUint8(0, 5);
          const buffers = slot.cut(framing.transmit(payloadBytes));
          const whole = Buffer.concat(buffers.map(({ gpa, bytes }) => ram.view(gpa, bytes)));
          assert.ok(buffers.every(({ bytes }) => bytes > 0));
          assert.equal(whole.length, HEADER_BYTES + payloadBytes);
          assert.equal(whole[0], 5);
          assert.ok(whole.subarray(HEADER_BYTES).every((byte) => byte === 7));
        }),
        { numRuns: 30 },
      );
    });
});

describe("receive slots", () => {
  it("give back what was written to their buffers, however those are cut, from any byte on", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(sizes, fc.nat(), fc.nat(), (cut, fromSeed, lengthSeed) => {
        const total = cut.reduce((sum, bytes) => sum + bytes, 0);
        const { slots, block } = makeReceiveSlots(ram, 2, cut);
        const packet = Uint8Array.from({ length: total }, (_, i) => i % 251);
        let at = 0;
        for (const { gpa, bytes } of slots[1].buffers) {
          ram.view(gpa, bytes).set(packet.subarray(at, at + bytes));
          at += bytes;
        }
        const from = fromSeed % total;
        const length = lengthSeed % (total - from + 1);
        const pieces: Uint8Array[] = [];
        slots[1].payload(from, length, (piece) => pieces.push(piece.slice()));
        assert.deepEqual(Buffer.concat(pieces), Buffer.from(packet.subarray(from, from + length)));
        assert.equal(slots[1].capacity, total);
        if (total >= HEADER_BYTES) assert.equal(slots[1].header().getUint8(40), packet[40]);
        ram.free(block);
      }),
    );
  });

  it("lie on cache lines of their own, so that what is written beyond one shows in none", () => {
    const { slots } = makeReceiveSlots(ram, 3, [1, 10, 100]);
    const starts = slots.flatMap(({ buffers }) => buffers.map(({ gpa }) => gpa));
    assert.ok(starts.every((gpa) => gpa % 64 === 0));
    assert.equal(new Set(starts).size, 9);
  });
});
