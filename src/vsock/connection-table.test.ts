import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ConnectionTable } from "./connection-table.js";

class Entry {
  nextOfBucket: Entry | undefined;
  constructor(
    readonly hostPort: number,
    readonly guestPort: number,
  ) {}
}

// Many in few numbers: every table has buckets with several of them.
const somePair = fc.oneof(
  fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 3 })),
  fc.tuple(fc.constantFrom(0, 5000, 0xffff_ffff), fc.integer({ min: 1024, max: 1400 })),
  fc.tuple(fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 0xffff_ffff })),
);

describe("the connection table", () => {
  it("agrees with a plain map, whatever comes and goes", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(somePair, fc.boolean()), { maxLength: 200 }), (steps) => {
        const table = new ConnectionTable<Entry>();
        const model = new Map<string, Entry>();
        for (const [[hostPort, guestPort], add] of steps) {
          const key = `${hostPort}:${guestPort}`;
          const known = model.get(key);
          assert.equal(table.find(hostPort, guestPort), known);
          if (add && known === undefined) {
            const entry = new Entry(hostPort, guestPort);
            model.set(key, entry);
            table.add(entry);
          } else if (!add && known !== undefined) {
            model.delete(key);
            table.remove(known);
          }
          assert.equal(table.size, model.size);
        }
        assert.deepEqual(new Set(table.all()), new Set(model.values()));
      }),
    );
  });

  it("finds each of thousands, in the order of their ports, and loses none when others go", () => {
    const table = new ConnectionTable<Entry>();
    const entries = Array.from({ length: 4096 }, (_, index) => new Entry(index >> 6, (index & 63) * 2 ** 20));
    for (const entry of [...entries].reverse()) table.add(entry);
    assert.deepEqual(table.all(), entries);
    for (const [index, entry] of entries.entries()) if (index % 3 === 0) table.remove(entry);
    for (const [index, { hostPort, guestPort }] of entries.entries())
      assert.equal(table.find(hostPort, guestPort), index % 3 === 0 ? undefined : entries[index]);
    assert.equal(table.size, entries.length - 1366);
  });
});
