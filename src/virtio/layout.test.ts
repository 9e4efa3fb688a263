import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeStruct, defineLayout, encodeStruct, layoutFaults } from "./layout.js";

const MIXED = defineLayout("mixed", 16, [
  { name: "byte", offset: 0, width: 1 },
  { name: "_padding", offset: 1, width: 1 },
  { name: "half", offset: 2, width: 2 },
  { name: "word", offset: 4, width: 4 },
  { name: "raw", offset: 8, width: 3 },
  { name: "_tail", offset: 11, width: 5 },
]);

const LONG = defineLayout("long", 8, [{ name: "value", offset: 0, width: 8 }]);

test("a table without gap or overlap has no faults", () => {
  assert.deepEqual(layoutFaults(MIXED), []);
});

test("a gap, an overlap and a wrong size are each named", () => {
  const gap = defineLayout("gap", 8, [
    { name: "a", offset: 0, width: 2 },
    { name: "b", offset: 4, width: 4 },
  ]);
  const overlap = defineLayout("overlap", 6, [
    { name: "a", offset: 0, width: 4 },
    { name: "b", offset: 2, width: 4 },
  ]);
  const short = defineLayout("short", 4, [{ name: "a", offset: 0, width: 8 }]);
  assert.match(layoutFaults(gap).join(), /gap before b at 2/);
  assert.match(layoutFaults(overlap).join(), /b overlaps/);
  assert.match(layoutFaults(short).join(), /fields end at 8, size is 4/);
});

test("a structure is written and read at any base, in either byte order, with zero padding", () => {
  const value = { byte: 0xab, half: 0x1234, word: 0xdeadbeef, raw: Uint8Array.of(7, 8, 9) };
  for (const little of [true, false]) {
    const bytes = new Uint8Array(20).fill(0xff);
    const view = new DataView(bytes.buffer);
    encodeStruct(MIXED, value, view, 3, little);
    assert.deepEqual(decodeStruct(MIXED, view, 3, little), value);
    assert.equal(view.getUint16(5, little), 0x1234);
    assert.deepEqual([...bytes.subarray(14, 19)], [0, 0, 0, 0, 0]);
    assert.equal(bytes[2], 0xff);
    assert.equal(bytes[19], 0xff);
  }
});

test("bytes that were decoded are a copy", () => {
  const bytes = new Uint8Array(16);
  const { raw } = decodeStruct(MIXED, new DataView(bytes.buffer), 0);
  bytes.fill(1);
  assert.deepEqual([...raw], [0, 0, 0]);
});

test("a value that does not fit its field throws and names the field", () => {
  const view = new DataView(new ArrayBuffer(16));
  const good = { byte: 0, half: 0, word: 0, raw: new Uint8Array(3) };
  assert.throws(() => encodeStruct(MIXED, { ...good, half: 65536 }, view, 0), /mixed\.half/);
  assert.throws(() => encodeStruct(MIXED, { ...good, byte: -1 }, view, 0), /mixed\.byte/);
  assert.throws(() => encodeStruct(MIXED, { ...good, word: 0.5 }, view, 0), /mixed\.word/);
  assert.throws(() => encodeStruct(MIXED, { ...good, raw: new Uint8Array(2) }, view, 0), /mixed\.raw/);
  assert.throws(() => encodeStruct(LONG, { value: 2n ** 64n }, view, 0), /long\.value/);
  assert.throws(() => encodeStruct(LONG, { value: -1n }, view, 0), /long\.value/);
});
