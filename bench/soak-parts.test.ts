import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { totalOf } from "./soak-messages.js";
import { nextRestMs } from "./soak-pace.js";
import { CorruptStream, LONGEST_SLICE_BYTES, PatternStream } from "./soak-pattern.js";
import { Chance } from "./soak-random.js";
import { kibibytesOf, sampleProcess } from "./soak-sample.js";

describe("the pattern of a soak", () => {
  it("is found right however it is cut", () => {
    const made = new PatternStream(12_345);
    const whole = Buffer.concat([
      made.make(1),
      made.make(LONGEST_SLICE_BYTES),
      made.make(7),
      made.make(60_000),
      made.make(60_000),
    ]);
    const checked = new PatternStream(12_345);
    for (let at = 0, bytes = 1; at < whole.length; at += bytes, bytes = 1 + ((bytes * 7) % 70_001))
      checked.check(whole.subarray(at, at + bytes));
    assert.equal(checked.bytes, whole.length);
    new PatternStream(12_345).check(whole);
  });

  it("finds one wrong byte, and says where", () => {
    const bytes = Buffer.from(new PatternStream(1).make(5000));
    bytes[4321] ^= 1;
    const checked = new PatternStream(1);
    checked.check(bytes.subarray(0, 1000));
    assert.throws(
      () => checked.check(bytes.subarray(1000)),
      (error: Error) => error instanceof CorruptStream && /^byte 4321 of the stream/.test(error.message),
    );
  });

  it("finds pieces that are missing, doubled or exchanged", () => {
    const whole = Buffer.from(new PatternStream(9).make(3 * 4096));
    const [a, b, c] = [0, 1, 2].map((page) => whole.subarray(page * 4096, (page + 1) * 4096));
    for (const pieces of [
      [a, c],
      [a, a, b],
      [b, a, c],
    ])
      assert.throws(() => new PatternStream(9).check(Buffer.concat(pieces)), CorruptStream);
  });
});

describe("chance in a soak", () => {
  it("is the same for the same seed", () => {
    const draw = (seed: number): number[] => {
      const chance = new Chance(seed);
      return Array.from({ length: 100 }, () => chance.between(0, 1000));
    };
    assert.deepEqual(draw(5), draw(5));
    assert.notDeepEqual(draw(5), draw(6));
  });

  it("stays within its bounds, reaches them, and picks by weight", () => {
    const chance = new Chance(1);
    const numbers = Array.from({ length: 1000 }, () => chance.between(3, 5));
    assert.deepEqual([...new Set(numbers)].sort(), [3, 4, 5]);
    for (let i = 0; i < 1000; i++) {
      const bytes = chance.magnitude(1, 65_536);
      assert.ok(Number.isInteger(bytes) && bytes >= 1 && bytes <= 65_536);
    }
    const picked = Array.from({ length: 1000 }, () =>
      chance.pick([
        ["often", 9],
        ["never", 0],
        ["seldom", 1],
      ]),
    );
    const often = picked.filter((name) => name === "often").length;
    assert.ok(often > 800 && often < 1000);
    assert.ok(!picked.includes("never"));
  });
});

describe("the pace of a soak", () => {
  it("rests longer when too much was used, shorter when too little, and changes no faster than twice", () => {
    assert.equal(nextRestMs(100, 0.25, 0.25), 100);
    assert.equal(nextRestMs(100, 0.3, 0.25), 120);
    assert.equal(nextRestMs(100, 1, 0.25), 200);
    assert.equal(nextRestMs(100, 0, 0.25), 50);
    assert.equal(nextRestMs(1, 0, 0.25), 1);
    assert.equal(nextRestMs(2000, 1, 0.25), 2000);
  });
});

describe("the samples of a soak", () => {
  it("reads sizes as /proc writes them", () => {
    assert.equal(kibibytesOf("VmRSS:\t  12 kB\nRssAnon:\t 7 kB\n", "RssAnon"), 7168);
    assert.throws(() => kibibytesOf("VmRSS:\t  12 kB\n", "Pss"), /there is no Pss/);
  });

  it("can be taken of this process", () => {
    const sample = sampleProcess(process.pid);
    assert.ok(sample.rssBytes >= sample.privateBytes && sample.privateBytes > 0);
    assert.ok(sample.pssBytes > 0 && sample.descriptors > 2 && sample.mappings > 10 && sample.threads > 1);
  });

  it("adds up what several VMs have done", () => {
    const tally = {
      played: { stream: 1, crowd: 2 },
      opened: 3,
      movedBytes: 4,
      reboots: 5,
      cutOff: 6,
      late: 9,
      corrupt: 7,
      failures: 8,
      troubles: ["a"],
    };
    assert.deepEqual(totalOf([tally, { ...tally, played: { stream: 10 }, troubles: [] }]), {
      played: { stream: 11, crowd: 2 },
      opened: 6,
      movedBytes: 8,
      reboots: 10,
      cutOff: 12,
      late: 18,
      corrupt: 14,
      failures: 16,
      troubles: ["a"],
    });
  });
});
