import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Scratch } from "../linux/scratch.js";
import { SpillPool } from "./spill-pool.js";
import type { SpillRing } from "./spill-ring.js";

const source = new Scratch(4096);

/** Bytes of address space that this process has mapped: unmapped memory is missing there. */
function mappedBytes(): number {
  return Number(/^VmSize:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]) * 1024;
}

describe("the pool of spill rings", () => {
  it("gives the same rings again, size by size, in whatever order sizes come", () => {
    const pool = new SpillPool(1 << 20);
    const sizes = [4096, 65_536, 12_289];
    const rings = sizes.map((size) => pool.take(size));
    for (const ring of rings) pool.giveBack(ring);
    for (let round = 0; round < 3; round++) {
      const again = [...sizes].reverse().map((size) => pool.take(size));
      assert.deepEqual(new Set(again), new Set(rings), "no ring is new");
      assert.deepEqual(
        again.map(({ capacity }) => capacity),
        [...sizes].reverse(),
      );
      assert.equal(pool.bytes, 0);
      for (const ring of again) pool.giveBack(ring);
    }
  });

  it("gives them empty, however they were left", () => {
    const pool = new SpillPool(1 << 20);
    const ring = pool.take(4096);
    ring.append(source.address, 4000);
    pool.giveBack(ring);
    assert.equal(pool.take(4096), ring);
    assert.equal(ring.length, 0);
    ring.append(source.address, 4096);
    ring.unmap();
  });

  it("keeps no more than its bound, displaces other sizes first, and unmaps what it does not keep", () => {
    const pool = new SpillPool(4 * 65_536);
    const give = (size: number, count: number): void => {
      for (const ring of Array.from({ length: count }, () => pool.take(size))) pool.giveBack(ring);
    };
    give(65_536, 9);
    assert.equal(pool.bytes, 4 * 65_536);
    give(131_072, 1);
    assert.equal(pool.bytes, 4 * 65_536, "two small ones made room for the large one");
    const small = [pool.take(65_536), pool.take(65_536)];
    const large = pool.take(131_072);
    assert.equal(pool.bytes, 0, "and these are all that there were");
    for (const ring of [...small, large]) pool.giveBack(ring);
    give(1 << 20, 1);
    assert.equal(pool.bytes, 4 * 65_536, "what exceeds the bound by itself displaces nothing");

    const before = mappedBytes();
    const huge = 1 << 30;
    for (let round = 0; round < 64; round++) pool.giveBack(pool.take(huge));
    assert.ok(mappedBytes() - before < huge);
  });

  it("never loses count", () =>
    fc.assert(
      fc.property(
        fc.array(fc.record({ takes: fc.boolean(), size: fc.constantFrom(1, 4096, 8192, 40_000) })),
        (steps) => {
          const pool = new SpillPool(5 * 8192);
          const out: SpillRing[] = [];
          for (const { takes, size } of steps) {
            const ring = takes ? undefined : out.pop();
            if (ring === undefined) {
              const taken = pool.take(size);
              assert.deepEqual([taken.capacity, taken.length], [size, 0]);
              assert.ok(!out.includes(taken), "nobody else has it");
              out.push(taken);
            } else {
              pool.giveBack(ring);
            }
            assert.ok(pool.bytes >= 0 && pool.bytes <= pool.mostBytes);
          }
          for (const ring of out) pool.giveBack(ring);
        },
      ),
    ));
});
