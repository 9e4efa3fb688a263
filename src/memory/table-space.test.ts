import assert from "node:assert/strict";
import { test } from "node:test";
import { Access, Outcome } from "./address.js";
import { GuestMemory } from "./guest-memory.js";
import { SegmentList } from "./segments.js";
import { TableSpace } from "./table-space.js";
import { addRegion, inputOf, PAGE } from "./testing.js";

const UVA = 0x7f12_3456_7000;
const GPA = 0x1_0000_0000;

function setUp() {
  const memory = new GuestMemory();
  const region = addRegion(memory, { gpa: GPA, size: 4 * PAGE, uva: UVA });
  const spaces = { gpa: new TableSpace("gpa", memory), uva: new TableSpace("uva", memory) };
  return { memory, region, ...spaces, out: new SegmentList() };
}

test("guest-physical and user addresses above 4 GiB lead to the same host address", () => {
  const { region, gpa, uva, out } = setUp();
  assert.equal(gpa.translate(0x10, 1, 20, Access.READ, out), Outcome.OK);
  assert.equal(uva.translate(0x3456_7024, 0x7f12, 20, Access.WRITE, out), Outcome.OK);
  // The second range follows the first, so both are one segment.
  assert.deepEqual([out.count, out.address[0], out.length[0]], [1, region.host + 0x10, 40]);
});

test("halves of an address mean the same as signed and as unsigned numbers", () => {
  const memory = new GuestMemory();
  const region = addRegion(memory, { gpa: 0xffff_f000, size: PAGE, uva: UVA });
  const out = new SegmentList();
  assert.equal(new TableSpace("gpa", memory).translate(-16, 0, 16, Access.READ, out), Outcome.OK);
  assert.equal(out.address[0], region.host + PAGE - 16);
  assert.equal(new TableSpace("gpa", memory).translate(0, -1, 1, Access.READ, out), Outcome.FAULT);
});

test("a range that leaves the table by one byte is a fault that names it", () => {
  const { gpa, out } = setUp();
  assert.equal(gpa.translate(0, 1, 4 * PAGE, Access.READ, out), Outcome.OK);
  assert.equal(gpa.translate(1, 1, 4 * PAGE, Access.READ, out), Outcome.FAULT);
  assert.deepEqual(gpa.fault, {
    code: "outside-memory",
    message: "16384 bytes at guest-physical address 0x100000001 are not all inside the memory table",
  });
});

test("addresses from 2^53 to the end of the 64-bit space are faults", () => {
  const { gpa, out } = setUp();
  for (const high of [2 ** 21, 2 ** 31, 2 ** 32 - 1]) {
    assert.equal(gpa.translate(0xffff_ffff, high, 1, Access.READ, out), Outcome.FAULT);
  }
  assert.match(gpa.fault?.message ?? "", /0xffffffffffffffff/);
});

test("nothing at all can be translated anywhere", () => {
  const { gpa, out } = setUp();
  assert.equal(gpa.translate(5, 0xffff_ffff, 0, Access.READ, out), Outcome.OK);
  assert.equal(out.count, 0);
});

test("a space is of the generation of its memory table, and limits no chain", () => {
  const { memory, gpa, uva } = setUp();
  memory.remove(inputOf({ gpa: GPA, size: 4 * PAGE, uva: UVA }));
  assert.deepEqual([gpa.generation, uva.generation], [1, 1]);
  assert.equal(gpa.mostPagesPerChain, Number.POSITIVE_INFINITY);
});
