import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryError, type MemoryErrorCode } from "./errors.js";
import { GuestMemory } from "./guest-memory.js";
import { Iotlb } from "./iotlb.js";
import { addRegion, GIB, inputOf, lookUp, PAGE } from "./testing.js";

const UVA = 0x7f00_0000_0000;
const uva = BigInt(UVA);
const page = BigInt(PAGE);
const END = 2n ** 64n;

/** Two regions of 8 pages that follow each other in user addresses, and not on the host; and a table over them. */
function setUp(capacity?: number) {
  const memory = new GuestMemory();
  const first = addRegion(memory, { gpa: 0, size: 8 * PAGE, uva: UVA });
  const second = addRegion(memory, { gpa: 5 * GIB, size: 8 * PAGE, uva: UVA + 8 * PAGE });
  return { memory, first, second, iotlb: new Iotlb(memory, capacity) };
}

function codeOf(action: () => unknown): MemoryErrorCode {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof MemoryError, String(error));
    return error.code;
  }
  assert.fail("nothing was refused");
}

test("a mapping is found from its first to its last byte, wherever in the 64-bit space it is", () => {
  for (const iova of [
    0n,
    0xffff_f000n,
    2n ** 32n - 1n,
    2n ** 53n - 5n,
    2n ** 63n,
    END - 3n * page - 7n,
    END - 0x3000n,
  ]) {
    const { iotlb, first } = setUp();
    iotlb.update(iova, 0x3000n, uva + 16n, 3);
    assert.deepEqual(lookUp(iotlb, iova), { host: first.host + 16, permission: 3 });
    assert.deepEqual(lookUp(iotlb, iova + 0x2fffn), { host: first.host + 16 + 0x2fff, permission: 3 });
    if (iova > 0n) assert.equal(lookUp(iotlb, iova - 1n), undefined);
    if (iova + 0x3000n < END) assert.equal(lookUp(iotlb, iova + 0x3000n), undefined);
  }
});

test("looking up one page changes no answer about another whose number ends alike", () => {
  const { iotlb } = setUp();
  const [near, far] = [5n * page, 5n * page + 2n ** 40n];
  iotlb.update(near, page, uva, 3);
  iotlb.update(far, page, uva + page, 1);
  const expected = [lookUp(iotlb, near), lookUp(iotlb, far), undefined];
  for (let i = 0; i < 3; i++) {
    assert.deepEqual(
      [near, far, near + 2n ** 50n].map((iova) => lookUp(iotlb, iova)),
      expected,
    );
  }
  iotlb.invalidate(near, page);
  assert.deepEqual([lookUp(iotlb, far), lookUp(iotlb, near)], [expected[1], undefined]);
});

const refusals: [string, MemoryErrorCode, [bigint, bigint, bigint, number]][] = [
  ["an empty one", "empty", [0n, 0n, uva, 3]],
  ["one that ends beyond 2^64", "address-overflow", [END - page, page + 1n, uva, 3]],
  ["one of no permission", "bad-permission", [0n, page, uva, 0]],
  ["one of an unknown permission", "bad-permission", [0n, page, uva, 4]],
  ["one that begins before memory", "outside-memory", [0n, page, uva - 1n, 3]],
  ["one that ends one byte after memory", "outside-memory", [0n, 16n * page + 1n, uva, 3]],
  ["one at the end of user addresses", "outside-memory", [0n, page, END - page, 3]],
];

for (const [name, code, message] of refusals) {
  test(`an UPDATE is refused and maps nothing: ${name}`, () => {
    const { iotlb } = setUp();
    assert.equal(
      codeOf(() => iotlb.update(...message)),
      code,
    );
    assert.equal(iotlb.table.count, 0);
    assert.equal(iotlb.statistics.updates, 0);
  });
}

test("a mapping over two regions has two entries, each contiguous on the host", () => {
  const { iotlb, first, second } = setUp();
  iotlb.update(0x1_0000_0005n, 16n * page, uva, 1);
  assert.deepEqual(iotlb.table.entries(), [
    { iova: 0x1_0000_0005n, size: 8n * page, host: first.host, permission: 1 },
    { iova: 0x1_0000_0005n + 8n * page, size: 8n * page, host: second.host, permission: 1 },
  ]);
});

test("a replacement in the middle of a mapping leaves both ends as they were", () => {
  const { iotlb, first } = setUp();
  iotlb.update(0n, 8n * page, uva, 3);
  iotlb.update(2n * page + 1n, page, uva, 1);
  assert.deepEqual(iotlb.table.entries(), [
    { iova: 0n, size: 2n * page + 1n, host: first.host, permission: 3 },
    { iova: 2n * page + 1n, size: page, host: first.host, permission: 1 },
    { iova: 3n * page + 1n, size: 5n * page - 1n, host: first.host + 3 * PAGE + 1, permission: 3 },
  ]);
});

test("only what takes a mapping away changes the generation", () => {
  const { iotlb } = setUp();
  iotlb.update(0n, page, uva, 3);
  iotlb.update(page, page, uva, 3);
  assert.equal(iotlb.generation, 0);
  iotlb.update(0n, page, uva, 3);
  assert.equal(iotlb.generation, 0, "a repetition takes nothing away");
  iotlb.update(0n, page, uva, 1);
  assert.equal(iotlb.generation, 1);
  iotlb.invalidate(16n * page, page);
  assert.equal(iotlb.generation, 1, "nothing was mapped there");
  iotlb.invalidate(0n, page);
  assert.equal(iotlb.generation, 2);
  iotlb.clear();
  assert.equal(iotlb.generation, 3);
});

test("an INVALIDATE takes the whole of each entry that it touches, and no other", () => {
  const { iotlb } = setUp();
  iotlb.update(0n, 4n * page, uva, 3);
  iotlb.update(4n * page, page, uva, 3);
  iotlb.update(5n * page, 2n * page, uva, 3);
  iotlb.invalidate(4n * page - 1n, 1n);
  assert.deepEqual(
    iotlb.table.entries().map(({ iova }) => iova),
    [4n * page, 5n * page],
  );
});

test("an INVALIDATE that ends exactly at 2^64 reaches the last byte of the space", () => {
  const { iotlb } = setUp();
  for (const iova of [0xfeef_f000n, 0xfef0_0000n, 0xffff_f000n, 2n ** 53n, END - page]) {
    iotlb.update(iova, page, uva, 3);
  }
  iotlb.invalidate(0xfef0_0000n, 0xffff_ffff_0110_0000n);
  assert.deepEqual(
    iotlb.table.entries().map(({ iova }) => iova),
    [0xfeef_f000n],
  );
  iotlb.update(END - page, page, uva, 3);
  iotlb.invalidate(0n, END - 1n);
  assert.equal(iotlb.table.count, 0);
  iotlb.update(END - page, page, uva, 3);
  iotlb.invalidate(0n, END);
  assert.equal(iotlb.table.count, 0);
});

test("an INVALIDATE that makes no sense is refused, and leaves nothing mapped", () => {
  for (const [iova, size, code] of [
    [0n, 0n, "empty"],
    [0x1000n, END - 1n, "address-overflow"],
  ] as const) {
    const { iotlb } = setUp();
    iotlb.update(2n ** 40n, page, uva, 3);
    assert.equal(
      codeOf(() => iotlb.invalidate(iova, size)),
      code,
    );
    assert.equal(iotlb.table.count, 0);
    assert.equal(iotlb.generation, 1);
  }
});

test("the oldest entry makes room, but not one of a ring", () => {
  const { iotlb } = setUp(3);
  iotlb.pin(0x1010, 1, 0x1000);
  iotlb.update(0x1_0000_1000n, page, uva, 3);
  iotlb.update(0x1_0000_2000n, page, uva, 3);
  for (let i = 8n; i < 12n; i++) iotlb.update(i * page, page, uva, 3);
  assert.deepEqual(
    iotlb.table.entries().map(({ iova }) => iova),
    [11n * page, 0x1_0000_1000n, 0x1_0000_2000n],
  );
  assert.equal(iotlb.statistics.retired, 3);
  assert.equal(iotlb.table.unpinnedCapacity, 1);
  iotlb.unpinAll();
  assert.equal(iotlb.table.unpinnedCapacity, 3);
  iotlb.update(12n * page, page, uva, 3);
  assert.equal(lookUp(iotlb, 0x1_0000_1000n), undefined);
});

test("an entry that was repeated is as young as the repetition", () => {
  const { iotlb } = setUp(2);
  iotlb.update(0n, page, uva, 3);
  iotlb.update(page, page, uva, 3);
  iotlb.update(0n, page, uva, 3);
  iotlb.update(8n * page, page, uva, 3);
  assert.deepEqual(
    iotlb.table.entries().map(({ iova }) => iova),
    [0n, 8n * page],
  );
});

test("what is left of a torn entry is kept from being retired only where it still touches a ring", () => {
  const { iotlb } = setUp(3);
  iotlb.pin(2 * PAGE, 0, PAGE);
  iotlb.update(0n, 3n * page, uva, 3);
  iotlb.update(page, page, uva, 1);
  assert.deepEqual([...iotlb.table.pinned.slice(0, 3)], [0, 0, 1]);
  iotlb.update(8n * page, page, uva, 3);
  iotlb.update(9n * page, page, uva, 3);
  assert.deepEqual(
    iotlb.table.entries().map(({ iova }) => iova),
    [2n * page, 8n * page, 9n * page],
  );
});

test("if nothing but ring pages is left, the oldest of those makes room", () => {
  const { iotlb } = setUp(2);
  iotlb.pin(0, 0, 8 * PAGE);
  for (let i = 0n; i < 3n; i++) iotlb.update(i * page, page, uva, 3);
  assert.deepEqual(
    iotlb.table.entries().map(({ iova }) => iova),
    [page, 2n * page],
  );
});

test("a full table of 2048 entries takes another one", () => {
  const { iotlb } = setUp();
  for (let i = 0n; i < 2049n; i++) iotlb.update(END - 1n - i * 2n, 1n, uva + i, 3);
  assert.equal(iotlb.table.count, 2048);
  assert.equal(lookUp(iotlb, END - 1n), undefined);
  assert.notEqual(lookUp(iotlb, END - 3n), undefined);
});

test("an UPDATE over more regions than there are entries is refused", () => {
  const { iotlb } = setUp(1);
  assert.equal(
    codeOf(() => iotlb.update(0n, 16n * page, uva, 3)),
    "no-room",
  );
});

test("when a region goes, so does every entry that points into it", () => {
  const { memory, iotlb } = setUp();
  iotlb.update(0n, 16n * page, uva, 3);
  iotlb.update(32n * page, page, uva + 8n * page, 3);
  memory.remove(inputOf({ gpa: 5 * GIB, size: 8 * PAGE, uva: UVA + 8 * PAGE }));
  assert.deepEqual(
    iotlb.table.entries().map(({ iova, size }) => [iova, size]),
    [[0n, 8n * page]],
  );
  assert.ok(iotlb.generation > 0);
  memory.replaceAll([]);
  assert.equal(iotlb.table.count, 0);
});

test("under GPA_ADDRESSES the address of an UPDATE is a guest-physical one", () => {
  const memory = new GuestMemory();
  memory.guestAddressesOnly = true;
  const region = addRegion(memory, { gpa: 4 * GIB, size: PAGE, uva: 0 });
  const iotlb = new Iotlb(memory);
  iotlb.update(0n, page, BigInt(4 * GIB), 3);
  assert.deepEqual(lookUp(iotlb, 1n), { host: region.host + 1, permission: 3 });
});
