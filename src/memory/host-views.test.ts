import assert from "node:assert/strict";
import { test } from "node:test";
import { GuestMemory } from "./guest-memory.js";
import { OVERLAP_BYTES, WINDOW_BYTES } from "./host-views.js";
import { addRegion, GIB, inputOf, PAGE } from "./testing.js";

const UVA = 0x7f00_0000_0000;

test("what starts just before the end of a window is in it, and the next window shows the same bytes", () => {
  const memory = new GuestMemory();
  const numbers = { gpa: 0, size: 3 * GIB, uva: UVA };
  const region = addRegion(memory, numbers);
  const { views } = memory;
  const boundary = region.mappingAddress + WINDOW_BYTES;
  views.locate(boundary - 1);
  assert.ok(views.available >= OVERLAP_BYTES);
  views.data.setUint32(views.offset + 1, 0x12345678, true);
  views.locate(boundary);
  assert.equal(views.offset, 0);
  assert.equal(views.words[0], 0x12345678);
  views.locate(boundary - 4);
  assert.equal(views.words[(views.offset >>> 2) + 1], 0x12345678);
  memory.clear();
});

test("going to and fro between regions shows each one's own bytes", () => {
  const memory = new GuestMemory();
  const regions = [0, 1, 2].map((i) => addRegion(memory, { gpa: i * GIB, size: PAGE, uva: UVA + i * GIB }));
  for (const [i, { host }] of regions.entries()) {
    memory.views.locate(host + 8);
    memory.views.data.setUint8(memory.views.offset, i + 1);
  }
  for (const [i, { host }] of [...regions.entries(), ...regions.entries()]) {
    memory.views.locate(host + 8);
    assert.equal(memory.views.data.getUint8(memory.views.offset), i + 1);
  }
});

test("each of many regions is found, in whatever order they are touched, and after some have gone", () => {
  const memory = new GuestMemory();
  const numbers = Array.from({ length: 100 }, (_, i) => ({ gpa: i * GIB, size: PAGE, uva: UVA + i * GIB }));
  const regions = numbers.map((each) => addRegion(memory, each));
  const { views } = memory;
  // 37 and 100 have no common divisor, so this goes to every region.
  const order = regions.map((_, i) => (i * 37) % regions.length);
  for (const i of order) {
    views.locate(regions[i].host + 16);
    views.data.setUint8(views.offset, i);
  }
  for (const i of order.filter((i) => i % 3 === 0)) memory.remove(inputOf(numbers[i]));
  for (const i of order) {
    if (i % 3 === 0) assert.throws(() => views.locate(regions[i].host), /not guest memory/);
    else {
      views.locate(regions[i].host + 16);
      assert.equal(views.data.getUint8(views.offset), i);
    }
  }
  memory.clear();
});

test("an address that is not guest memory, or no longer, is our own mistake and is not shown", () => {
  const memory = new GuestMemory();
  const numbers = { gpa: 0, size: PAGE, uva: UVA };
  const region = addRegion(memory, numbers);
  assert.throws(() => memory.views.locate(region.host + PAGE), /not guest memory/);
  memory.views.locate(region.host);
  memory.remove(inputOf(numbers));
  assert.throws(() => memory.views.locate(region.host), /not guest memory/);
});
