import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { BufferBook, MAPPING_MS } from "./buffer-book.js";
import type { GuestReader } from "./guest-reader.js";
import { ObservedChain } from "./observed-chain.js";
import { noTraffic, type RingTraffic } from "./traffic.js";

// Content is read by the test's own reader; nobody asks for bytes.
const NO_GUEST = { space: { kind: "gpa" } } as GuestReader;
const NEVER = (): boolean => false;

describe("buffers that were returned", () => {
  let nowMs: number;
  let seen: number[];
  let unmapped: Set<number>;
  let traffic: RingTraffic;
  let book: BufferBook;

  beforeEach(() => {
    nowMs = 0;
    seen = [];
    unmapped = new Set();
    traffic = noTraffic();
    const reader = {
      side: "writable" as const,
      read: ({ id }: ObservedChain) => (unmapped.has(id) ? ("unmapped" as const) : () => void seen.push(id)),
      recover: () => undefined,
    };
    book = new BufferBook({
      format: "split",
      guest: NO_GUEST,
      traffic,
      reader,
      fault: assert.fail,
      nowMs: () => nowMs,
    });
  });

  /** A chain at an address of its own. */
  function chain(id: number): ObservedChain {
    return new ObservedChain(id, 1, [{ low: id * 0x1000, high: 0, length: 64, flags: 2 }]);
  }

  function exchange(...ids: number[]): void {
    book.madeAvailable(ids.map(chain), NEVER);
    book.returned(ids.map((id) => ({ id, writtenBytes: 44 })));
    book.settle();
  }

  it("hold up those behind them until their mapping comes", () => {
    unmapped.add(1);
    exchange(1, 2);
    assert.deepEqual(seen, []);
    unmapped.clear();
    book.retry(NEVER);
    assert.deepEqual(seen, [1, 2]);
    assert.equal(traffic.unseen, 0);
  });

  it("are given up, and counted, if it does not come in time", () => {
    unmapped.add(1);
    exchange(1, 2);
    nowMs = MAPPING_MS;
    book.retry(NEVER);
    assert.deepEqual(seen, []);
    nowMs = MAPPING_MS + 1;
    book.retry(NEVER);
    assert.deepEqual(seen, [2]);
    assert.equal(traffic.unseen, 1);
  });

  it("are given up at the end, and what is behind them shown", () => {
    unmapped.add(1);
    exchange(1, 2);
    book.close();
    assert.deepEqual(seen, [2]);
    assert.equal(traffic.unseen, 1);
  });

  it("hold up no more than so many", () => {
    unmapped.add(0);
    exchange(0);
    for (let id = 1; id <= 4096; id++) exchange(id);
    assert.equal(seen.length, 4096);
    assert.equal(traffic.unseen, 1);
  });

  it("are unseen if nobody saw them become available, or another has taken their place", () => {
    book.returned([{ id: 7, writtenBytes: 44 }]);
    book.madeAvailable(
      [chain(3), new ObservedChain(4, 1, [{ low: 0x3000, high: 0, length: 64, flags: 2 }])],
      NEVER,
    );
    book.returned([
      { id: 3, writtenBytes: 44 },
      { id: 4, writtenBytes: 44 },
    ]);
    assert.deepEqual(seen, [4]);
    assert.equal(traffic.unseen, 2);
  });
});
