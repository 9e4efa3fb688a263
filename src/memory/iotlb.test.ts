import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MemoryError, type MemoryErrorCode } from "./errors.js";
import { GuestMemory } from "./guest-memory.js";
import { Iotlb } from "./iotlb.js";
import { addRegion, GIB, inputOf, PAGE } from "./testing.js";

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

/** Host address and permission of a byte, by the hot path's own lookup; undefined if it is not mapped. */
function lookUp(iotlb: Iotlb, iova: bigint): { host: number; permission: number } | undefined {
  const position = iotlb.find(Number(iova & 0xffff_ffffn), Number(iova >> 32n));
  if (position < 0) return undefined;
  const start = BigInt(iotlb.startPage[position]) * page + BigInt(iotlb.startOffset[position]);
  return { host: iotlb.host[position] + Number(iova - start), permission: iotlb.permission[position] };
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
    assert.equal(iotlb.count, 0);
    assert.equal(iotlb.statistics.updates, 0);
  });
}

test("a mapping over two regions has two entries, each contiguous on the host", () => {
  const { iotlb, first, second } = setUp();
  iotlb.update(0x1_0000_0005n, 16n * page, uva, 1);
  assert.deepEqual(iotlb.entries(), [
    { iova: 0x1_0000_0005n, size: 8n * page, host: first.host, permission: 1 },
    { iova: 0x1_0000_0005n + 8n * page, size: 8n * page, host: second.host, permission: 1 },
  ]);
});

test("a replacement in the middle of a mapping leaves both ends as they were", () => {
  const { iotlb, first } = setUp();
  iotlb.update(0n, 8n * page, uva, 3);
  iotlb.update(2n * page + 1n, page, uva, 1);
  assert.deepEqual(iotlb.entries(), [
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
    iotlb.entries().map(({ iova }) => iova),
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
    iotlb.entries().map(({ iova }) => iova),
    [0xfeef_f000n],
  );
  iotlb.update(END - page, page, uva, 3);
  iotlb.invalidate(0n, END - 1n);
  assert.equal(iotlb.count, 0);
  iotlb.update(END - page, page, uva, 3);
  iotlb.invalidate(0n, END);
  assert.equal(iotlb.count, 0);
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
    assert.equal(iotlb.count, 0);
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
    iotlb.entries().map(({ iova }) => iova),
    [11n * page, 0x1_0000_1000n, 0x1_0000_2000n],
  );
  assert.equal(iotlb.statistics.retired, 3);
  assert.equal(iotlb.unpinnedCapacity, 1);
  iotlb.unpinAll();
  assert.equal(iotlb.unpinnedCapacity, 3);
  iotlb.update(12n * page, page, uva, 3);
  assert.equal(lookUp(iotlb, 0x1_0000_1000n), undefined);
});

test("if nothing but ring pages is left, the oldest of those makes room", () => {
  const { iotlb } = setUp(2);
  iotlb.pin(0, 0, 8 * PAGE);
  for (let i = 0n; i < 3n; i++) iotlb.update(i * page, page, uva, 3);
  assert.deepEqual(
    iotlb.entries().map(({ iova }) => iova),
    [page, 2n * page],
  );
});

test("a full table of 2048 entries takes another one", () => {
  const { iotlb } = setUp();
  for (let i = 0n; i < 2049n; i++) iotlb.update(END - 1n - i * 2n, 1n, uva + i, 3);
  assert.equal(iotlb.count, 2048);
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
    iotlb.entries().map(({ iova, size }) => [iova, size]),
    [[0n, 8n * page]],
  );
  assert.ok(iotlb.generation > 0);
  memory.replaceAll([]);
  assert.equal(iotlb.count, 0);
});

test("under GPA_ADDRESSES the address of an UPDATE is a guest-physical one", () => {
  const memory = new GuestMemory();
  memory.guestAddressesOnly = true;
  const region = addRegion(memory, { gpa: 4 * GIB, size: PAGE, uva: 0 });
  const iotlb = new Iotlb(memory);
  iotlb.update(0n, page, BigInt(4 * GIB), 3);
  assert.deepEqual(lookUp(iotlb, 1n), { host: region.host + 1, permission: 3 });
});

/** What is known of one byte. */
interface Byte {
  /** The run of bytes that came by one UPDATE and were not torn apart since. */
  run: number;
  serial: number;
  host: number;
  permission: number;
}

const DOMAIN_BYTES = 4 * PAGE;

/** An IOTLB as an array of bytes: each says what it is mapped to, and nothing is clever. */
class NaiveIotlb {
  bytes: (Byte | undefined)[] = new Array(DOMAIN_BYTES).fill(undefined);
  pinned: boolean[] = new Array(DOMAIN_BYTES).fill(false);
  #nextRun = 1;
  #nextSerial = 1;

  constructor(
    readonly capacity: number,
    readonly hostOf: (uvaOffset: number) => number,
  ) {}

  update(start: number, size: number, uvaOffset: number, permission: number): void {
    const serial = this.#nextSerial++;
    const incoming = Array.from({ length: size }, (_, i) => this.hostOf(uvaOffset + i));
    // Where the second region begins, a piece of its own begins, even if the host has them side by side.
    const seam = 8 * PAGE - uvaOffset;
    const isWhole = seam <= 0 || seam >= size;
    const covered = this.bytes[start]?.run;
    const same = incoming.every((host, i) => {
      const byte = this.bytes[start + i];
      return byte?.run === covered && byte?.host === host && byte?.permission === permission;
    });
    if (isWhole && covered !== undefined && same) {
      for (const byte of this.bytes) if (byte?.run === covered) byte.serial = serial;
      return;
    }
    for (let i = 0; i < size; i++) this.bytes[start + i] = undefined;
    this.#renumber();
    const pieces = isWhole ? 1 : 2;
    while (this.#runs().length + pieces > this.capacity) this.#retire();
    let run = this.#nextRun++;
    for (let i = 0; i < size; i++) {
      if (i > 0 && i === seam) run = this.#nextRun++;
      this.bytes[start + i] = { run, serial, host: incoming[i], permission };
    }
  }

  invalidate(start: number, size: number): void {
    const touched = new Set(this.bytes.slice(start, start + size).map((byte) => byte?.run));
    this.bytes = this.bytes.map((byte) => (byte !== undefined && touched.has(byte.run) ? undefined : byte));
  }

  /** First byte of each run, in order. */
  #runs(): { run: number; serial: number; isPinned: boolean }[] {
    const found = new Map<number, { run: number; serial: number; isPinned: boolean }>();
    this.bytes.forEach((byte, i) => {
      if (byte === undefined) return;
      const known = found.get(byte.run) ?? { run: byte.run, serial: byte.serial, isPinned: false };
      found.set(byte.run, { ...known, isPinned: known.isPinned || this.pinned[i] });
    });
    return [...found.values()];
  }

  /** Gives what a hole tore apart numbers of its own. */
  #renumber(): void {
    let before: number | undefined;
    let given = 0;
    for (const byte of this.bytes) {
      const run = byte?.run;
      if (byte !== undefined) {
        if (run !== before) given = this.#nextRun++;
        byte.run = given;
      }
      before = run;
    }
  }

  #retire(): void {
    const runs = this.#runs();
    const free = runs.filter(({ isPinned }) => !isPinned);
    const oldest = (free.length > 0 ? free : runs).reduce((a, b) => (b.serial < a.serial ? b : a));
    this.bytes = this.bytes.map((byte) => (byte?.run === oldest.run ? undefined : byte));
  }
}

type Step =
  | { kind: "update"; start: number; size: number; uvaOffset: number; permission: number }
  | { kind: "invalidate"; start: number; size: number }
  | { kind: "pin"; start: number; size: number }
  | { kind: "unpin" };

/** Mostly whole pages, as front-ends send them, and sometimes any bytes. */
const place = fc.oneof(
  fc.nat({ max: 3 }).map((pages) => pages * PAGE),
  fc.nat({ max: DOMAIN_BYTES - 1 }),
);
const length = fc.oneof(
  fc.integer({ min: 1, max: 4 }).map((pages) => pages * PAGE),
  fc.integer({ min: 1, max: DOMAIN_BYTES }),
  fc.constant(1),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("update" as const),
      start: place,
      size: length,
      uvaOffset: place.map((offset) => offset + 5 * PAGE),
      permission: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("invalidate" as const), start: place, size: length }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("pin" as const),
      start: place,
      size: fc.integer({ min: 1, max: PAGE }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "unpin" as const }) },
);

function apply(taken: Step, base: bigint, iotlb: Iotlb, naive: NaiveIotlb): void {
  if (taken.kind === "unpin") {
    iotlb.unpinAll();
    naive.pinned.fill(false);
    return;
  }
  const { start } = taken;
  const size = Math.min(taken.size, DOMAIN_BYTES - start);
  const iova = base + BigInt(start);
  if (taken.kind === "update") {
    iotlb.update(iova, BigInt(size), uva + BigInt(taken.uvaOffset), taken.permission);
    naive.update(start, size, taken.uvaOffset, taken.permission);
  } else if (taken.kind === "invalidate") {
    iotlb.invalidate(iova, BigInt(size));
    naive.invalidate(start, size);
  } else {
    iotlb.pin(Number(iova & 0xffff_ffffn), Number(iova >> 32n), size);
    const firstPage = Math.floor(start / PAGE);
    const lastPage = Math.floor((start + size - 1) / PAGE);
    naive.pinned.fill(true, firstPage * PAGE, (lastPage + 1) * PAGE);
  }
}

/** Compares the bytes at and around every place where either side changes. */
function compare(base: bigint, iotlb: Iotlb, naive: NaiveIotlb): void {
  const places = new Set([0, DOMAIN_BYTES - 1]);
  const around = (at: number) => {
    for (const i of [at - 1, at, at + 1]) if (i >= 0 && i < DOMAIN_BYTES) places.add(i);
  };
  for (const { iova, size } of iotlb.entries())
    [Number(iova - base), Number(iova - base + size)].forEach(around);
  for (let i = 1; i < DOMAIN_BYTES; i++) if (naive.bytes[i]?.run !== naive.bytes[i - 1]?.run) around(i);
  for (const i of places) {
    const byte = naive.bytes[i];
    const expected = byte === undefined ? undefined : { host: byte.host, permission: byte.permission };
    assert.deepEqual(lookUp(iotlb, base + BigInt(i)), expected, `byte ${i}`);
  }
}

test("after any messages every byte is mapped as an array of bytes has it, and what is lost changes the generation", () => {
  const { memory } = setUp();
  const bases = [0n, 2n ** 32n - 2n * page, 2n ** 53n - 2n * page, 2n ** 63n - 2n * page, END - 4n * page];
  fc.assert(
    fc.property(
      fc.constantFrom(...bases),
      fc.integer({ min: 2, max: 6 }),
      fc.array(step, { maxLength: 20 }),
      (base, capacity, steps) => {
        const iotlb = new Iotlb(memory, capacity);
        const naive = new NaiveIotlb(capacity, (offset) => memory.uvaToHost(UVA + offset));
        for (const taken of steps) {
          const before = naive.bytes.map((byte) => byte?.host);
          const generation = iotlb.generation;
          apply(taken, base, iotlb, naive);
          compare(base, iotlb, naive);
          assert.ok(iotlb.count <= capacity);
          const isLost = before.some((host, i) => host !== undefined && naive.bytes[i]?.host !== host);
          if (isLost) assert.notEqual(iotlb.generation, generation);
        }
      },
    ),
    { numRuns: 60 },
  );
});
