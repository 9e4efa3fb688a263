import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Access } from "./address.js";
import { type Miss, MissQueue, MOST_PENDING_MISSES } from "./miss-queue.js";
import { PAGE } from "./testing.js";

const { READ, WRITE, READ_WRITE } = Access;

function takeAll(queue: MissQueue, nowMs = 0): Miss[] {
  const taken: Miss[] = [];
  for (let miss = queue.take(nowMs); miss !== undefined; miss = queue.take(nowMs)) taken.push(miss);
  return taken;
}

test("misses are asked in the order in which they came, each once", () => {
  const queue = new MissQueue();
  queue.note(2 ** 52 - 1, 0xabc, READ);
  queue.note(5, 0, WRITE);
  assert.ok(queue.hasUnsent);
  assert.deepEqual(takeAll(queue), [
    { iova: 0xffff_ffff_ffff_fabcn, permission: READ },
    { iova: 0x5000n, permission: WRITE },
  ]);
  assert.equal(queue.hasUnsent, false);
  assert.equal(queue.count, 2);
});

test("one question a page is enough, and it asks for all that is wanted while it has not been sent", () => {
  const queue = new MissQueue();
  queue.note(5, 16, READ);
  queue.note(5, 8, READ);
  queue.note(5, 0, WRITE);
  assert.deepEqual(takeAll(queue), [{ iova: 0x5010n, permission: READ_WRITE }]);
  queue.note(5, 0, WRITE);
  assert.deepEqual(takeAll(queue), []);
});

test("a question that was sent for reading does not stand for writing", () => {
  const queue = new MissQueue();
  queue.note(5, 0, READ);
  takeAll(queue);
  queue.note(5, 0, WRITE);
  assert.deepEqual(takeAll(queue), [{ iova: 0x5000n, permission: WRITE }]);
});

test("the queue takes 256 misses and refuses the next one, until an answer made room", () => {
  const queue = new MissQueue();
  for (let page = 0; page < MOST_PENDING_MISSES; page++) assert.ok(queue.note(page, 0, READ));
  assert.ok(queue.isFull);
  assert.equal(queue.note(999, 0, READ), false);
  assert.ok(queue.note(7, 0, READ), "this one is pending already");
  assert.equal(queue.satisfied(0n, 0x1000n), 1);
  assert.ok(queue.note(999, 0, READ));
});

test("an UPDATE answers exactly the misses whose byte it maps", () => {
  const queue = new MissQueue();
  for (const [page, offset] of [
    [1, 0xfff],
    [2, 0],
    [3, 5],
    [3 + 2 ** 20, 5],
  ]) {
    queue.note(page, offset, READ);
  }
  assert.equal(queue.satisfied(0x2000n, 0x1005n), 1);
  assert.equal(queue.isPending(2), false);
  assert.equal(queue.satisfied(0x3005n, 1n), 1);
  assert.ok(queue.isPending(1) && queue.isPending(3 + 2 ** 20));
  assert.equal(queue.satisfied(0n, 2n ** 64n), 2);
});

test("a MISS that stays unanswered can be asked again after its time, not before", () => {
  const queue = new MissQueue({ timeoutMs: 100 });
  queue.note(1, 0, READ);
  assert.equal(queue.forgetUnanswered(1e9), 0);
  takeAll(queue, 1000);
  queue.note(2, 0, READ);
  assert.equal(queue.forgetUnanswered(1099), 0);
  assert.equal(queue.forgetUnanswered(1100), 1);
  assert.ok(queue.isPending(2), "what was not sent yet is not forgotten");
  assert.ok(queue.note(1, 0, READ));
  assert.equal(takeAll(queue, 1100).length, 2);
});

/** Lets time pass until what was sent at `sentAtMs` is forgotten, and returns how long that took. */
function waitForNothing(queue: MissQueue, sentAtMs: number): number {
  let waitMs = 0;
  while (queue.forgetUnanswered(sentAtMs + waitMs) === 0) waitMs++;
  return waitMs;
}

test("each round without an answer doubles the wait up to 16 times, and an answer ends that", () => {
  const queue = new MissQueue({ timeoutMs: 100 });
  let nowMs = 0;
  const waits: number[] = [];
  for (let round = 0; round < 7; round++) {
    queue.note(1, 0, READ);
    queue.note(2, 0, READ);
    takeAll(queue, nowMs);
    waits.push(waitForNothing(queue, nowMs));
    nowMs += waits[round];
  }
  assert.deepEqual(waits, [100, 200, 400, 800, 1600, 1600, 1600]);
  queue.note(1, 0, READ);
  queue.note(2, 0, READ);
  takeAll(queue, nowMs);
  queue.satisfied(0x1000n, 0x1000n);
  assert.equal(waitForNothing(queue, nowMs), 100);
});

interface Pending extends Miss {
  readonly sentAtMs: number | undefined;
}

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("note"),
      page: fc.nat({ max: 6 }),
      access: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("take"), page: fc.nat(), access: fc.constant(1) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("update"),
      page: fc.nat({ max: 6 }),
      access: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("wait"), page: fc.nat({ max: 150 }), access: fc.constant(1) }),
  },
);

test("the queue asks what a plain list of questions would ask", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const capacity = 4;
      const queue = new MissQueue({ capacity, timeoutMs: 100 });
      let naive: Pending[] = [];
      let nowMs = 0;
      let waitFactor = 1;
      for (const { kind, page, access } of steps) {
        if (kind === "note") {
          const iova = BigInt(page * PAGE);
          const wanted = access as Access;
          const known = naive.find(
            (miss) =>
              miss.iova === iova && (miss.sentAtMs === undefined || (miss.permission & wanted) === wanted),
          );
          const isTaken = known !== undefined || naive.length < capacity;
          assert.equal(queue.note(page, 0, wanted), isTaken);
          if (known === undefined && isTaken) naive.push({ iova, permission: wanted, sentAtMs: undefined });
          naive = naive.map((miss) =>
            miss === known ? { ...miss, permission: (miss.permission | wanted) as Access } : miss,
          );
        } else if (kind === "take") {
          const next = naive.find(({ sentAtMs }) => sentAtMs === undefined);
          const taken = queue.take(nowMs);
          assert.deepEqual(taken, next && { iova: next.iova, permission: next.permission });
          naive = naive.map((miss) => (miss === next ? { ...miss, sentAtMs: nowMs } : miss));
        } else if (kind === "update") {
          const [iova, size] = [BigInt(page * PAGE), BigInt(access * PAGE)];
          const left = naive.filter((miss) => miss.iova < iova || miss.iova >= iova + size);
          assert.equal(queue.satisfied(iova, size), naive.length - left.length);
          if (left.length < naive.length) waitFactor = 1;
          naive = left;
        } else {
          nowMs += page;
          const deadlineMs = nowMs - 100 * waitFactor;
          const left = naive.filter(({ sentAtMs }) => sentAtMs === undefined || sentAtMs > deadlineMs);
          assert.equal(queue.forgetUnanswered(nowMs), naive.length - left.length);
          if (left.length < naive.length) waitFactor = Math.min(2 * waitFactor, 16);
          naive = left;
        }
        assert.equal(queue.count, naive.length);
      }
    }),
  );
});
