import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Access } from "../memory/address.js";
import { MissLedger } from "./miss-ledger.js";

const READ = { ring: 0, iova: 0x1000n, access: Access.READ } as const;
const OF_RING_1 = { ...READ, ring: 1 } as const;

describe("the questions of a device like Linux", () => {
  it("are noted once a ring until they are read, and anew after that", () => {
    const misses = new MissLedger(false);
    misses.note(READ);
    misses.note(READ);
    misses.note(OF_RING_1);
    assert.deepEqual([misses.read(), misses.read(), misses.read()], [READ, OF_RING_1, undefined]);
    misses.note(READ);
    assert.deepEqual(misses.read(), READ);
  });

  it("are answered only once they were read, whatever the mapping permits", () => {
    const misses = new MissLedger(false);
    misses.note(OF_RING_1);
    assert.deepEqual([...misses.answered(0x1000n, 0x1000n, Access.WRITE)], []);
    misses.read();
    assert.deepEqual([...misses.answered(0x2000n, 0x1000n, Access.WRITE)], []);
    assert.deepEqual([...misses.answered(0x1000n, 0x1000n, Access.WRITE)], [1]);
    assert.deepEqual([...misses.answered(0x1000n, 0x1000n, Access.WRITE)], []);
  });
});

describe("the questions of a device like DPDK", () => {
  it("are asked once until a mapping answers them that permits what was asked for", () => {
    const misses = new MissLedger(true);
    misses.note(READ);
    misses.note(OF_RING_1);
    misses.read();
    assert.equal(misses.hasUnread, false);
    misses.answered(0x1000n, 0x1000n, Access.WRITE);
    misses.note(READ);
    assert.equal(misses.hasUnread, false);
    misses.answered(0x1000n, 0x1000n, Access.READ_WRITE);
    misses.note(READ);
    assert.equal(misses.hasUnread, true);
    misses.clear();
    assert.equal(misses.hasUnread, false);
  });
});
