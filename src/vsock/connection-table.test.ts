import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ConnectionTable } from "./connection-table.js";

class Entry {
  nextOfKey: Entry | undefined;
  constructor(
    readonly hostPort: number,
    readonly guestPort: number,
  ) {}
}

// 0x9e3779b1 * 1 and the guest port that cancels it: pairs that share a key.
const collidingPairs = [0, 1, 2, 3].map((hostPort) => [hostPort, Math.imul(hostPort, 0x9e3779b1) >>> 0]);
const somePair = fc.oneof(
  fc.constantFrom(...collidingPairs),
  fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 3 })),
  fc.tuple(fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer({ min: 0, max: 0xffff_ffff })),
);

describe("the connection table", () => {
  it("agrees with a plain map, also for pairs that share a key", () => {
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

  it("finds each of several pairs that share a key, and loses none when one of them goes", () => {
    for (const gone of collidingPairs.keys()) {
      const table = new ConnectionTable<Entry>();
      const entries = collidingPairs.map(([hostPort, guestPort]) => new Entry(hostPort, guestPort));
      for (const entry of entries) table.add(entry);
      table.remove(entries[gone]);
      for (const [index, entry] of entries.entries()) {
        assert.equal(table.find(entry.hostPort, entry.guestPort), index === gone ? undefined : entry);
      }
    }
  });
});
