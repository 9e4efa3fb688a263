import assert from "node:assert/strict";
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { SystemCallError } from "../linux/errors.js";
import { createMemfd } from "../linux/mapping.js";
import { MemoryError, type MemoryErrorCode } from "./errors.js";
import { GuestMemory, MOST_REGIONS } from "./guest-memory.js";
import { SegmentList } from "./segments.js";
import { addRegion, GIB, inputOf, MIB, memfdFor, type Numbers, PAGE, reopen, wasOpen } from "./testing.js";

const UVA = 0x7f00_0000_0000;

/** The code of the MemoryError that `action` throws. */
function codeOf(action: () => unknown): MemoryErrorCode {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof MemoryError, String(error));
    return error.code;
  }
  assert.fail("nothing was refused");
}

function segmentsOf(list: SegmentList): [number, number][] {
  return Array.from({ length: list.count }, (_, i) => [list.address[i], list.length[i]]);
}

/** The host address of a guest-physical address, or -1. */
function hostOf(memory: GuestMemory, gpa: number): number {
  const out = new SegmentList();
  return memory.resolveGpa(gpa, 1, out) ? out.address[0] : -1;
}

test("what is in the file is seen at the host address of the region, from its offset on", () => {
  const memory = new GuestMemory();
  const numbers = { gpa: 0x10_0000, size: 4 * PAGE, uva: UVA, mmapOffset: 3 * PAGE };
  const fd = memfdFor(numbers);
  const again = reopen(fd);
  writeSync(again, "hello", 3 * PAGE + 100);
  memory.add(inputOf(numbers), fd);
  memory.views.locate(hostOf(memory, 0x10_0000 + 100));
  assert.equal(memory.views.data.getUint8(memory.views.offset), "h".charCodeAt(0));
  assert.equal(hostOf(memory, 0x10_0000 + 100), memory.uvaToHost(UVA + 100));
  assert.equal(hostOf(memory, 0x10_0000 - 1), -1);
  assert.equal(hostOf(memory, 0x10_0000 + 4 * PAGE), -1);
  closeSync(again);
});

test("a region above 4 GiB and larger than that is reached to its last byte", () => {
  const memory = new GuestMemory();
  const region = addRegion(memory, { gpa: 4 * GIB, size: 5 * GIB, uva: UVA, mmapOffset: 2 * GIB });
  assert.equal(region.mappingLength, 5 * GIB);
  const last = 9 * GIB - 1;
  memory.views.locate(hostOf(memory, last));
  memory.views.data.setUint8(memory.views.offset, 7);
  memory.views.locate(memory.uvaToHost(UVA + 5 * GIB - 1));
  assert.equal(memory.views.data.getUint8(memory.views.offset), 7);
  assert.equal(hostOf(memory, 9 * GIB), -1);
  memory.clear();
});

test("a range over two regions that touch gives two segments, and one that leaves them gives none", () => {
  const memory = new GuestMemory();
  // Linux places mappings from the top down, so these two are not side by side in this order.
  const first = addRegion(memory, { gpa: 0, size: 5 * PAGE, uva: UVA });
  const second = addRegion(memory, { gpa: 5 * PAGE, size: 6 * PAGE, uva: UVA + 5 * PAGE });
  assert.notEqual(first.host + 5 * PAGE, second.host);
  const out = new SegmentList();
  assert.ok(memory.resolveGpa(5 * PAGE - 10, 30, out));
  assert.deepEqual(segmentsOf(out), [
    [first.host + 5 * PAGE - 10, 10],
    [second.host, 20],
  ]);
  out.clear();
  assert.equal(memory.resolveUva(UVA + 5 * PAGE - 10, 6 * PAGE + 11, out), false);
});

const refusals: [MemoryErrorCode, Numbers][] = [
  ["overlap-gpa", { gpa: 15 * PAGE, size: 2 * PAGE, uva: UVA + MIB }],
  ["overlap-gpa", { gpa: 8 * PAGE, size: 16 * PAGE, uva: UVA + MIB }],
  ["overlap-uva", { gpa: MIB, size: 2 * PAGE, uva: UVA + 15 * PAGE }],
  ["overlap-uva", { gpa: MIB, size: 64 * PAGE, uva: UVA - PAGE }],
];

for (const [code, numbers] of refusals) {
  test(`a region of ${numbers.size / PAGE} pages at gpa page ${numbers.gpa / PAGE} is refused: ${code}`, () => {
    const memory = new GuestMemory();
    addRegion(memory, { gpa: 10 * PAGE, size: 6 * PAGE, uva: UVA + 10 * PAGE });
    const fd = memfdFor(numbers);
    assert.equal(
      codeOf(() => memory.add(inputOf(numbers), fd)),
      code,
    );
    assert.equal(memory.regions.length, 1);
    assert.equal(wasOpen(fd), false);
  });
}

test("a region that reaches beyond the end of its file is refused with both lengths", () => {
  const memory = new GuestMemory();
  const fd = createMemfd("short", 4 * PAGE - 1);
  assert.throws(() => memory.add(inputOf({ gpa: 0, size: 2 * PAGE, uva: UVA, mmapOffset: 2 * PAGE }), fd), {
    code: "file-too-short",
    message: /gpa=0x0 size=0x2000 .* 16383 bytes long .* ends at byte 16384/,
  });
  assert.equal(wasOpen(fd), false);
});

test("a descriptor that cannot be mapped is refused, and the cause says why", () => {
  const memory = new GuestMemory();
  const fd = reopenReadOnly(memfdFor({ gpa: 0, size: PAGE, uva: UVA }));
  assert.throws(
    () => memory.add(inputOf({ gpa: 0, size: PAGE, uva: UVA }), fd),
    (error: MemoryError) => {
      assert.equal(error.code, "mapping-failed");
      assert.match(error.message, /EACCES/);
      return true;
    },
  );
});

function reopenReadOnly(fd: number): number {
  const again = openSync(`/proc/self/fd/${fd}`, "r");
  closeSync(fd);
  return again;
}

test("every slot can be filled, and one region more is refused", () => {
  const memory = new GuestMemory();
  assert.equal(MOST_REGIONS, 509);
  for (let i = 0; i < MOST_REGIONS; i++)
    addRegion(memory, { gpa: 2 * i * PAGE, size: PAGE, uva: UVA + 2 * i * PAGE });
  for (let i = 0; i < MOST_REGIONS; i++) {
    assert.equal(hostOf(memory, 2 * i * PAGE + 5), memory.regions[i].host + 5);
    assert.equal(hostOf(memory, (2 * i + 1) * PAGE), -1);
  }
  assert.equal(
    codeOf(() => addRegion(memory, { gpa: GIB, size: PAGE, uva: UVA + GIB })),
    "too-many-regions",
  );
  memory.clear();
  assert.equal(memory.regions.length, 0);
});

test("a region is removed only by its exact values", () => {
  const memory = new GuestMemory();
  const numbers = { gpa: 0, size: 4 * PAGE, uva: UVA };
  addRegion(memory, numbers);
  for (const change of [{ gpa: PAGE }, { size: PAGE }, { uva: UVA + PAGE }]) {
    assert.equal(
      codeOf(() => memory.remove(inputOf({ ...numbers, ...change }))),
      "unknown-region",
    );
  }
  memory.remove(inputOf(numbers));
  assert.equal(hostOf(memory, 0), -1);
});

test("the generation changes when a region goes, and not when one comes", () => {
  const memory = new GuestMemory();
  addRegion(memory, { gpa: 0, size: PAGE, uva: UVA });
  assert.equal(memory.generation, 0);
  memory.remove(inputOf({ gpa: 0, size: PAGE, uva: UVA }));
  assert.equal(memory.generation, 1);
});

test("a new table takes the place of the old one, and one with a bad region changes nothing", () => {
  const memory = new GuestMemory();
  const old = addRegion(memory, { gpa: 0, size: 4 * PAGE, uva: UVA });
  const bad = [
    { gpa: 0, size: 8 * PAGE, uva: UVA },
    { gpa: 4 * PAGE, size: PAGE, uva: UVA + MIB },
  ].map((numbers) => ({ region: inputOf(numbers), fd: memfdFor(numbers) }));
  assert.equal(
    codeOf(() => memory.replaceAll(bad)),
    "overlap-gpa",
  );
  assert.deepEqual(memory.regions, [old]);
  assert.deepEqual(
    bad.map(({ fd }) => wasOpen(fd)),
    [false, false],
  );
  const numbers = { gpa: 0, size: 8 * PAGE, uva: UVA };
  memory.replaceAll([{ region: inputOf(numbers), fd: memfdFor(numbers) }]);
  assert.equal(memory.regions.length, 1);
  assert.notEqual(hostOf(memory, 7 * PAGE), -1);
});

test("whoever listens hears of each region that goes away", () => {
  const memory = new GuestMemory();
  const gone: number[] = [];
  memory.onRemoval(({ gpa }) => gone.push(gpa));
  addRegion(memory, { gpa: 0, size: PAGE, uva: UVA });
  addRegion(memory, { gpa: MIB, size: PAGE, uva: UVA + MIB });
  memory.replaceAll([]);
  assert.deepEqual(gone.sort(), [0, MIB]);
});

test("under GPA_ADDRESSES a region's user address means nothing and its guest address is used for it", () => {
  const memory = new GuestMemory();
  memory.guestAddressesOnly = true;
  addRegion(memory, { gpa: 0, size: PAGE, uva: 0 });
  const second = addRegion(memory, { gpa: 4 * GIB, size: PAGE, uva: 0 });
  assert.equal(memory.uvaToHost(4 * GIB + 5), second.host + 5);
  memory.remove({ gpa: 0n, size: BigInt(PAGE), uva: 0x1234n });
  assert.equal(memory.regions.length, 1);
  assert.throws(() => {
    memory.guestAddressesOnly = false;
  });
});

test("a region says whether its file can still be made shorter", () => {
  const memory = new GuestMemory();
  const numbers = { gpa: 0, size: PAGE, uva: UVA };
  assert.equal(memory.add(inputOf(numbers), memfdFor(numbers, { sealShrink: false })).isSealed, false);
  memory.clear();
  assert.equal(memory.add(inputOf(numbers), memfdFor(numbers)).isSealed, true);
});

test("a view that outlives its region reads zeros, also when the range is mapped again", () => {
  const memory = new GuestMemory();
  const numbers = { gpa: 0, size: 13 * PAGE, uva: UVA };
  const region = addRegion(memory, numbers);
  memory.views.locate(region.host);
  const { data } = memory.views;
  const own = new Uint8Array(memory.views.viewOf(region.host + PAGE, 100));
  data.setUint8(0, 1);
  own[0] = 2;
  memory.remove(inputOf(numbers));
  assert.equal(data.getUint8(0), 0);
  assert.equal(own[0], 0);
  data.setUint8(0, 3);
  assert.equal(addRegion(memory, numbers).host, region.host);
  assert.equal(data.getUint8(0), 0);
  memory.clear();
});

test("a hugetlbfs region is mapped in whole huge pages, at a host address that is aligned to them", () => {
  const memory = new GuestMemory();
  let fd: number;
  try {
    fd = createMemfd("huge", 16 * MIB, { hugetlb: true });
  } catch (error) {
    // A kernel without huge pages says so, and there is nothing to map.
    assert.ok(error instanceof SystemCallError && error.call === "memfd_create");
    return;
  }
  // Mapping needs no huge page to be free; touching would, so this does not.
  const region = memory.add(inputOf({ gpa: 0, size: 3 * MIB, uva: UVA, mmapOffset: 3 * MIB }), fd);
  assert.ok(region.pageBytes >= 2 * MIB);
  assert.equal(region.mappingAddress % region.pageBytes, 0);
  assert.equal(region.mappingLength % region.pageBytes, 0);
  assert.equal((region.host - region.mappingAddress) % region.pageBytes, (3 * MIB) % region.pageBytes);
  memory.clear();
});

test("ten thousand regions that come and go leave no mapping and no descriptor behind", () => {
  const memory = new GuestMemory();
  const count = () => ({
    mappings: readFileSync("/proc/self/maps", "utf8").split("\n").length,
    descriptors: readdirSync("/proc/self/fd").length,
  });
  const cycle = (i: number) => {
    const numbers = { gpa: i * PAGE, size: (1 + (i % 3)) * PAGE, uva: UVA };
    const region = addRegion(memory, numbers);
    memory.views.locate(region.host);
    memory.remove(inputOf(numbers));
  };
  for (let i = 0; i < 30; i++) cycle(i);
  const before = count();
  for (let i = 0; i < 10_000; i++) cycle(i);
  const after = count();
  // The engine maps a little for its own heap meanwhile.
  assert.ok(after.mappings - before.mappings < 100, `${before.mappings} then ${after.mappings} mappings`);
  assert.ok(after.descriptors <= before.descriptors + 2);
});

test("every address is found as a scan of the list finds it", () => {
  const regions = fc.uniqueArray(
    fc.record({ slot: fc.nat({ max: 15 }), pages: fc.integer({ min: 1, max: 4 }) }),
    {
      selector: ({ slot }) => slot,
      maxLength: 12,
    },
  );
  fc.assert(
    fc.property(regions, fc.constantFrom(0, 4 * GIB - 32 * PAGE, 2 ** 53 - 64 * PAGE), (list, base) => {
      const memory = new GuestMemory();
      for (const { slot, pages } of list) {
        // User addresses run the other way round, so that the two orders differ.
        addRegion(memory, {
          gpa: base + slot * 4 * PAGE,
          size: pages * PAGE,
          uva: UVA + (15 - slot) * 4 * PAGE,
        });
      }
      for (let page = 0; page < 64; page++) {
        const gpa = base + page * PAGE + (page % 3) * 100;
        const home = memory.regions.find((region) => gpa >= region.gpa && gpa < region.gpa + region.size);
        const host = home === undefined ? -1 : home.host + (gpa - home.gpa);
        assert.equal(hostOf(memory, gpa), host);
        if (home !== undefined) assert.equal(memory.uvaToHost(home.uva + (gpa - home.gpa)), host);
      }
      memory.clear();
    }),
    { numRuns: 50 },
  );
});
