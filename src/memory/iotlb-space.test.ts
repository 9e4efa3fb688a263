import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Access, Outcome } from "./address.js";
import { GuestMemory } from "./guest-memory.js";
import { Iotlb } from "./iotlb.js";
import { IotlbSpace } from "./iotlb-space.js";
import { MISS_TIMEOUT_MS, MissQueue } from "./miss-queue.js";
import { SegmentList } from "./segments.js";
import { addRegion, inputOf, PAGE } from "./testing.js";

const UVA = 0x7f00_0000_0000;
const REGION_PAGES = 64;
const uva = BigInt(UVA);
const page = BigInt(PAGE);
const END = 2n ** 64n;
const { READ, WRITE, READ_WRITE } = Access;

function setUp(capacity?: number, missCapacity?: number) {
  const memory = new GuestMemory();
  const region = addRegion(memory, { gpa: 0, size: REGION_PAGES * PAGE, uva: UVA });
  const iotlb = new Iotlb(memory, capacity);
  const misses = new MissQueue(missCapacity === undefined ? {} : { capacity: missCapacity });
  const space = new IotlbSpace(iotlb, misses);
  const out = new SegmentList();
  return {
    memory,
    region,
    iotlb,
    misses,
    space,
    out,
    translate: (iova: bigint, length: number, access: Access = READ) =>
      space.translate(Number(iova & 0xffff_ffffn), Number(iova >> 32n), length, access, out),
    /** What the front-end would be asked now. */
    questions: () => {
      const asked: [bigint, number][] = [];
      for (let miss = misses.take(0); miss !== undefined; miss = misses.take(0))
        asked.push([miss.iova, miss.permission]);
      return asked;
    },
    /** An UPDATE as the session handles it. */
    update: (iova: bigint, size: bigint, to: bigint, permission: number) => {
      iotlb.update(iova, size, to, permission);
      misses.satisfied(iova, size);
    },
  };
}

test("a buffer over several mappings gives their host segments, joined where they are contiguous", () => {
  const { region, translate, update, out } = setUp();
  update(0xffff_f000n, page, uva + 8n * page, 3);
  update(0x1_0000_0000n, page, uva + 9n * page, 3);
  update(0x1_0000_1000n, page, uva, 3);
  assert.equal(translate(0xffff_f010n, 2 * PAGE), Outcome.OK);
  assert.deepEqual([out.count, out.totalBytes], [2, 2 * PAGE]);
  assert.deepEqual([out.address[0], out.length[0]], [region.host + 8 * PAGE + 16, 2 * PAGE - 16]);
  assert.deepEqual([out.address[1], out.length[1]], [region.host, 16]);
});

test("the last page of the 64-bit space can be used to its end, and nothing wraps around", () => {
  const { region, translate, update, out, space } = setUp();
  update(END - page, page, uva, 3);
  update(0n, page, uva, 3);
  assert.equal(translate(END - 16n, 16), Outcome.OK);
  assert.equal(out.address[0], region.host + PAGE - 16);
  assert.equal(translate(END - 16n, 17), Outcome.FAULT);
  assert.equal(space.fault?.code, "outside-memory");
  assert.match(space.fault?.message ?? "", /0xfffffffffffffff0: 17 bytes wrap around/);
});

test("halves of an address mean the same as signed and as unsigned numbers", () => {
  const { space, out, update } = setUp();
  update(END - page, page, uva, 3);
  update(0xffff_f000n, page, uva, 3);
  assert.equal(space.translate(-16, -1, 16, READ, out), Outcome.OK);
  assert.equal(space.translate(0xffff_fff0, 0xffff_ffff, 16, READ, out), Outcome.OK);
  assert.equal(space.translate(-16, 0, 16, READ, out), Outcome.OK);
  assert.equal(out.address[0], out.address[1]);
  assert.equal(out.address[0], out.address[2]);
  assert.equal(space.translate(-16, -1, 17, READ, out), Outcome.FAULT);
});

test("every missing page of a buffer is noted, so that one round trip asks for all of them", () => {
  const { translate, update, questions } = setUp();
  update(0x3000n, page, uva, 3);
  assert.equal(translate(0x1234n, 4 * PAGE, WRITE), Outcome.MISS);
  assert.deepEqual(questions(), [
    [0x1234n, WRITE],
    [0x2000n, WRITE],
    [0x4000n, WRITE],
    [0x5000n, WRITE],
  ]);
  assert.equal(translate(0x1234n, 4 * PAGE, WRITE), Outcome.MISS);
  assert.deepEqual(questions(), []);
});

test("a buffer of 4 GiB that is not mapped asks for as many pages as the queue takes, and stops", () => {
  const { translate, misses } = setUp(undefined, 16);
  assert.equal(translate(0n, 2 ** 32 - 1), Outcome.MISS);
  assert.equal(misses.count, 16);
  assert.deepEqual(misses.statistics, { noted: 16, merged: 0, refused: 1, sent: 0, unanswered: 0 });
});

test("an entry smaller than a page is used for its bytes, and the byte after it is asked for", () => {
  const { translate, update, questions } = setUp();
  update(0x1000n, 0x800n, uva, 3);
  assert.equal(translate(0x1000n, 0x800), Outcome.OK);
  assert.equal(translate(0x1000n, 0x801), Outcome.MISS);
  assert.deepEqual(questions(), [[0x1800n, READ]]);
});

test("a wider permission is asked for once, with what is granted already, and an UPDATE that has it helps", () => {
  const { translate, update, questions } = setUp();
  update(0x1000n, page, uva, READ);
  assert.equal(translate(0x1010n, 8, WRITE), Outcome.MISS);
  assert.deepEqual(questions(), [[0x1010n, READ_WRITE]]);
  assert.equal(translate(0x1010n, 8, WRITE), Outcome.MISS);
  assert.deepEqual(questions(), []);
  update(0x1000n, page, uva, READ_WRITE);
  assert.equal(translate(0x1010n, 8, WRITE), Outcome.OK);
});

test("an UPDATE that grants no more than before makes the access a fault", () => {
  const { translate, update, questions, space } = setUp();
  update(0x1000n, page, uva, READ);
  assert.equal(translate(0x1010n, 8, WRITE), Outcome.MISS);
  questions();
  update(0x1000n, page, uva, READ);
  assert.equal(translate(0x1010n, 8, WRITE), Outcome.FAULT);
  assert.equal(space.fault?.code, "not-permitted");
  assert.match(space.fault?.message ?? "", /0x1010: mapped for reading, and asked for writing too/);
  assert.equal(translate(0x1010n, 8, READ), Outcome.OK);
});

test("a question for more that stays without an answer ends as a fault, not as a question for ever", () => {
  const { translate, update, questions, misses } = setUp();
  update(0x1000n, page, uva, WRITE);
  assert.equal(translate(0x1000n, 8, READ), Outcome.MISS);
  questions();
  misses.forgetUnanswered(MISS_TIMEOUT_MS);
  assert.equal(translate(0x1000n, 8, READ), Outcome.FAULT);
});

test("after an INVALIDATE a wider permission may be asked for again", () => {
  const { translate, update, questions, iotlb } = setUp();
  update(0x1000n, page, uva, READ);
  translate(0x1000n, 8, WRITE);
  questions();
  update(0x1000n, page, uva, READ);
  iotlb.invalidate(0x1000n, page);
  update(0x1000n, page, uva, READ);
  assert.equal(translate(0x1000n, 8, WRITE), Outcome.MISS);
  assert.deepEqual(questions(), [[0x1000n, READ_WRITE]]);
});

test("each page of a large entry that permits too little is asked for by itself", () => {
  const { translate, update, questions } = setUp();
  update(0n, 8n * page, uva, READ);
  assert.equal(translate(0x10n, 2 * PAGE, WRITE), Outcome.MISS);
  assert.deepEqual(questions(), [
    [0x10n, READ_WRITE],
    [0x1000n, READ_WRITE],
    [0x2000n, READ_WRITE],
  ]);
  for (let i = 0n; i < 3n; i++) update(i * page, page, uva + i * page, READ_WRITE);
  assert.equal(translate(0x10n, 2 * PAGE, WRITE), Outcome.OK);
});

test("a page that is mapped for less than wanted, 4 GiB long, asks no more than the queue takes", () => {
  const { translate, update, misses } = setUp(undefined, 4);
  update(0n, 64n * page, uva, READ);
  assert.equal(translate(0n, 2 ** 32 - 1, WRITE), Outcome.MISS);
  assert.deepEqual([misses.count, misses.statistics.refused], [4, 0]);
});

test("a chain may need half of the entries that are not pinned", () => {
  const { space, iotlb } = setUp(64);
  assert.equal(space.mostPagesPerChain, 32);
  iotlb.pin(0x10, 0, PAGE);
  assert.equal(space.mostPagesPerChain, 31);
  assert.equal(new IotlbSpace(new Iotlb(new GuestMemory()), new MissQueue()).mostPagesPerChain, 1024);
});

test("a chain that needs more pages at once than it may is a fault, whether they are mapped or missing", () => {
  for (const mapped of [0n, 4n, 9n]) {
    const { space, translate, update } = setUp(16);
    for (let i = 0n; i < mapped; i++) update(i * page, page, uva + i * page, 3);
    space.beginChain();
    assert.equal(translate(0n, 8 * PAGE), mapped < 8n ? Outcome.MISS : Outcome.OK);
    assert.equal(translate(8n * page, 1), Outcome.FAULT);
    assert.equal(space.fault?.code, "too-many-pages");
    assert.match(space.fault?.message ?? "", /more than 8 pages/);
    space.beginChain();
    assert.equal(translate(8n * page, 1), mapped < 9n ? Outcome.MISS : Outcome.OK);
  }
});

test("an entry counts once for a chain however often and however much of it the chain uses", () => {
  const { space, translate, update } = setUp(4);
  update(0n, 32n * page, uva, 3);
  update(0x100000n, page, uva, 3);
  space.beginChain();
  for (let i = 0; i < 100; i++) {
    assert.equal(translate(BigInt(i % 32) * page, PAGE), Outcome.OK);
    assert.equal(translate(0x100000n, 8), Outcome.OK);
  }
});

test("the pages of rings count for no chain, mapped or missing", () => {
  const { space, translate, iotlb, update } = setUp(8);
  iotlb.pin(0, 0, 4 * PAGE);
  assert.equal(space.mostPagesPerChain, 2);
  space.beginChain();
  for (let i = 0; i < 10; i++) assert.equal(translate(0n, 4 * PAGE), Outcome.MISS);
  for (let i = 0n; i < 4n; i++) update(i * page, page, uva + i * page, 3);
  assert.equal(translate(0n, 4 * PAGE), Outcome.OK);
});

test("a chain of as many pages as allowed gets through though another ring's chain misses at the same time", () => {
  const { iotlb, misses, translate, update, out } = setUp(32, 8);
  const other = new IotlbSpace(iotlb, misses);
  let rounds = 0;
  const answer = () => {
    for (let miss = misses.take(0); miss !== undefined; miss = misses.take(0)) {
      const iova = (miss.iova / page) * page;
      update(iova, page, uva + (iova % (64n * page)), 3);
    }
  };
  let outcome: Outcome = Outcome.MISS;
  while (outcome === Outcome.MISS && rounds++ < 20) {
    other.beginChain();
    other.translate(0x10_0000 * (1 + (rounds % 3)), 0, 16 * PAGE, READ, out);
    answer();
    outcome = translate(0n, 16 * PAGE);
    answer();
  }
  assert.equal(outcome, Outcome.OK);
});

test("the generation is the table's, and follows the memory table", () => {
  const { space, memory, update, translate } = setUp();
  update(0n, page, uva, 3);
  const before = space.generation;
  memory.remove(inputOf({ gpa: 0, size: REGION_PAGES * PAGE, uva: UVA }));
  assert.notEqual(space.generation, before);
  assert.equal(translate(0n, 1), Outcome.MISS);
});

test("hits and misses are counted", () => {
  const { iotlb, update, translate } = setUp();
  update(0n, page, uva, 3);
  translate(0n, 2 * PAGE);
  const { hits, misses } = iotlb.statistics;
  assert.deepEqual([hits, misses], [1, 1]);
});

test("any range over any mapped pages is translated as a walk over single bytes would translate it", () => {
  const mapping = fc.uniqueArray(
    fc.record({
      at: fc.nat({ max: 11 }),
      to: fc.nat({ max: 63 }),
      permission: fc.integer({ min: 1, max: 3 }),
    }),
    { selector: ({ at }) => at, maxLength: 12 },
  );
  const bases = [0n, 2n ** 32n - 6n * page, 2n ** 53n - 6n * page, END - 12n * page];
  const range = fc.record({
    start: fc.nat({ max: 12 * PAGE - 1 }),
    length: fc.integer({ min: 1, max: 5 * PAGE }),
  });
  const { memory, region } = setUp();
  fc.assert(
    fc.property(
      fc.constantFrom(...bases),
      mapping,
      fc.array(range, { maxLength: 8 }),
      fc.constantFrom(READ, WRITE),
      (base, pages, ranges, access) => {
        const iotlb = new Iotlb(memory);
        const misses = new MissQueue();
        const space = new IotlbSpace(iotlb, misses);
        const byPage = new Map(pages.map((entry) => [entry.at, entry]));
        for (const { at, to, permission } of pages) {
          iotlb.update(base + BigInt(at) * page, page, uva + BigInt(to) * page, permission);
        }
        for (const { start, length: wished } of ranges) {
          const length = Math.min(wished, 12 * PAGE - start);
          const iova = base + BigInt(start);
          const out = new SegmentList();
          misses.clear();
          const fresh = new IotlbSpace(iotlb, misses);
          const outcome = fresh.translate(
            Number(iova & 0xffff_ffffn),
            Number(iova >> 32n),
            length,
            access,
            out,
          );
          const hosts: number[] = [];
          const lacking = new Set<number>();
          for (let i = start; i < start + length; i++) {
            const entry = byPage.get(Math.floor(i / PAGE));
            if (entry !== undefined && (entry.permission & access) !== 0)
              hosts.push(region.host + entry.to * PAGE + (i % PAGE));
            else lacking.add(Math.floor(i / PAGE));
          }
          assert.equal(outcome, lacking.size === 0 ? Outcome.OK : Outcome.MISS);
          assert.equal(misses.count, lacking.size);
          // The same space asked again and again remembers where it looked last; the answer is the same.
          if (outcome !== Outcome.OK) continue;
          const again = new SegmentList();
          assert.equal(
            space.translate(Number(iova & 0xffff_ffffn), Number(iova >> 32n), length, access, again),
            outcome,
          );
          for (const list of [out, again]) {
            const found: number[] = [];
            for (let s = 0; s < list.count; s++)
              for (let i = 0; i < list.length[s]; i++) found.push(list.address[s] + i);
            assert.deepEqual(found, hosts);
          }
        }
      },
    ),
    { numRuns: 60 },
  );
});
