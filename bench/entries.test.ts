import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DEFAULT_BUFFER_BYTES, type Entry, entriesFor } from "./entries.js";

function told(entries: readonly Entry[]): unknown[] {
  return entries.map(({ name, settings, bufferBytes }) => [name, [...settings].join("+"), bufferBytes]);
}

describe("who takes part in a contest", () => {
  it("is our device once and the peer twice, where the equal buffer is our default", () => {
    assert.deepEqual(told(entriesFor({ hasPeer: true })), [
      ["ours", "default+equal", undefined],
      ["peer", "default", undefined],
      ["peer-equal", "equal", DEFAULT_BUFFER_BYTES.ours],
      ["floor", "default+equal", undefined],
    ]);
  });

  it("is the peer once and ours twice, where it is the peer's", () => {
    const bufferBytes = DEFAULT_BUFFER_BYTES.peer;
    assert.deepEqual(told(entriesFor({ hasPeer: true, bufferBytes })), [
      ["ours", "default", undefined],
      ["ours-equal", "equal", bufferBytes],
      ["peer", "default+equal", undefined],
      ["floor", "default+equal", undefined],
    ]);
  });

  it("is one of each in one setting", () => {
    const bufferBytes = 524288;
    assert.deepEqual(told(entriesFor({ hasPeer: true, settings: ["equal"], bufferBytes })), [
      ["ours-equal", "equal", bufferBytes],
      ["peer-equal", "equal", bufferBytes],
      ["floor", "equal", undefined],
    ]);
    assert.deepEqual(
      entriesFor({ hasPeer: true, settings: ["default"] }).map(({ name }) => name),
      ["ours", "peer", "floor"],
    );
  });

  it("without the peer is ours with its default, and the floor", () => {
    assert.deepEqual(told(entriesFor({ hasPeer: false, bufferBytes: 65536 })), [
      ["ours", "default", undefined],
      ["floor", "default", undefined],
    ]);
  });

  it("advertises the same in the setting that is called equal", () => {
    for (const bufferBytes of [undefined, 65536, 131072]) {
      const equal = entriesFor({ hasPeer: true, bufferBytes }).filter(
        ({ side, settings }) => side !== "floor" && settings.has("equal"),
      );
      assert.equal(equal.length, 2);
      assert.equal(equal[0].advertisedBytes, equal[1].advertisedBytes);
    }
  });
});
