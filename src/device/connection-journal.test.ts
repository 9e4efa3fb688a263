import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ConnectionJournal, journalBytes, LEAST_TABLE_WORDS } from "./connection-journal.js";

const STREAM = 1;
const SEQPACKET = 2;

function memoryFor(connections: number): Uint32Array {
  return new Uint32Array(journalBytes(connections) / 4);
}

/** What another process finds in it. */
function lostIn(words: Uint32Array): string[] {
  const { lost } = new ConnectionJournal(words.slice(), 99);
  return lost.map(({ hostPort, guestPort, type }) => `${hostPort} ${guestPort} ${type}`).sort();
}

describe("the journal of connections", () => {
  it("keeps a connection until the guest knows that it is gone: at once, or when a reset was published", () => {
    const words = memoryFor(8);
    const journal = new ConnectionJournal(words, 1);
    journal.add(2, 800, 1025, STREAM);
    journal.add(2, 2 ** 32 - 2, 1026, SEQPACKET);
    journal.add(2, 801, 1027, STREAM);
    assert.deepEqual(lostIn(words), ["4294967294 1026 2", "800 1025 1", "801 1027 1"]);
    journal.remove(2, 800, 1025);
    journal.told(2, 801, 1027);
    assert.deepEqual(lostIn(words), ["4294967294 1026 2", "801 1027 1"]);
    journal.settle();
    assert.deepEqual(lostIn(words), ["4294967294 1026 2"]);
    journal.clear();
    assert.deepEqual(lostIn(words), []);
  });

  it("keeps connections of the same ports with the host and with siblings apart", () => {
    const words = memoryFor(4);
    const journal = new ConnectionJournal(words, 1);
    journal.add(2, 800, 1025, STREAM);
    journal.add(4, 800, 1025, SEQPACKET);
    journal.remove(2, 800, 1025);
    const { lost } = new ConnectionJournal(words.slice(), 99);
    assert.deepEqual(lost, [{ type: SEQPACKET, farCid: 4, hostPort: 800, guestPort: 1025 }]);
  });

  it("is taken over with its entries by another owner, which may add and remove, and by a third", () => {
    const words = memoryFor(4);
    const first = new ConnectionJournal(words, 1);
    assert.deepEqual(first.lost, []);
    first.add(2, 800, 1025, STREAM);
    const second = new ConnectionJournal(words, 2);
    assert.deepEqual(second.lost, [{ type: STREAM, farCid: 2, hostPort: 800, guestPort: 1025 }]);
    second.add(2, 801, 1026, STREAM);
    assert.deepEqual(new ConnectionJournal(words, 3).lost.length, 2);
    const third = new ConnectionJournal(words, 3);
    assert.deepEqual(third.lost, [], "its own");
    third.remove(2, 800, 1025);
    third.remove(2, 801, 1026);
    assert.deepEqual(lostIn(words), []);
  });

  it("takes the same connection once, and beyond its room none, without harm to the others", () => {
    const words = memoryFor(2);
    const journal = new ConnectionJournal(words, 1);
    for (const guestPort of [1, 1, 2, 3]) journal.add(2, 800, guestPort, STREAM);
    assert.deepEqual(lostIn(words), ["800 1 1", "800 2 1"]);
    journal.remove(2, 800, 3);
    journal.remove(2, 800, 1);
    journal.add(2, 800, 4, STREAM);
    assert.deepEqual(lostIn(words), ["800 2 1", "800 4 1"]);
  });

  it("with any content at all gives at most what it has room for", () =>
    fc.assert(
      fc.property(fc.uint32Array({ minLength: 4 + 4 * 5, maxLength: 4 + 4 * 5 }), (content) => {
        const words = memoryFor(5);
        new ConnectionJournal(words, 1);
        words.set(content.subarray(4), 4);
        const { lost } = new ConnectionJournal(words, 2);
        assert.equal(lost.length, [4, 8, 12, 16, 20].filter((at) => content[at] !== 0).length);
      }),
    ));

  it("does not believe memory that is none: other content, another version, another size", () => {
    const words = memoryFor(2);
    new ConnectionJournal(words, 1).add(2, 800, 1, STREAM);
    for (const at of [0, 1, 2]) {
      const other = words.slice();
      other[at]++;
      assert.deepEqual(lostIn(other), []);
    }
    assert.deepEqual(lostIn(new Uint32Array(words.length).fill(7)), []);
    assert.deepEqual(lostIn(new Uint32Array(LEAST_TABLE_WORDS)), []);
  });
});
