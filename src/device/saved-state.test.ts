import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { decodeState, encodeState } from "./saved-state.js";

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const state = fc.record({
  guestCid: u32,
  nextPort: u32,
  connections: fc.array(fc.record({ farCid: u32, hostPort: u32, guestPort: u32, type: u32 })),
});

describe("a saved state", () => {
  it("is read as it was written", () =>
    fc.assert(
      fc.property(state, (saved) => {
        assert.deepEqual(decodeState(encodeState(saved)), JSON.parse(JSON.stringify(saved)));
      }),
    ));

  it("cut anywhere is no state, and says so", () => {
    const bytes = encodeState({
      guestCid: 3,
      nextPort: 2 ** 30,
      connections: [{ farCid: 2, hostPort: 1, guestPort: 2, type: 1 }],
    });
    for (let length = 0; length < bytes.length; length++)
      assert.equal(typeof decodeState(bytes.subarray(0, length)), "string");
  });

  it("of another version is not guessed at", () => {
    const bytes = Buffer.from('{"format":"bit33-vsock","version":3}');
    assert.equal(decodeState(bytes), "it has version 3, and this program knows 2");
  });

  it("of anything at all never throws", () =>
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
        assert.equal(typeof decodeState(Buffer.from(text)), "string");
      }),
    ));
});
