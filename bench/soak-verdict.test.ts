import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { METRICS, type Metric, type SoakSample, statusOf, trendOf, verdictOf } from "./soak-verdict.js";

const MIB = 2 ** 20;
const NOTHING_ELSE = { corrupt: 0, failures: 0 };

/** A soak of so many samples, 5 seconds apart, every third of them quiet; `of` says what differs. */
function soak(
  count: number,
  of: (at: number, quiet: boolean) => Partial<Record<Metric, number>>,
): SoakSample[] {
  return Array.from({ length: count }, (_, at) => {
    const quiet = at % 3 === 2;
    return {
      sample: at + 1,
      seconds: 5 * (at + 1),
      quiet,
      rssBytes: 100 * MIB,
      privateBytes: 50 * MIB,
      pssBytes: 60 * MIB,
      heapUsedBytes: 30 * MIB,
      heapLiveBytes: 20 * MIB,
      externalBytes: 140 * MIB,
      descriptors: 51,
      mappings: 400,
      threads: 13,
      ...of(at, quiet),
    };
  });
}

function verdict(samples: readonly SoakSample[]): string {
  return verdictOf(samples, NOTHING_ELSE).verdict;
}

describe("the verdict of a soak", () => {
  it("is flat if nothing changes, and says so of every metric", () => {
    const { verdict: found, trends } = verdictOf(
      soak(90, () => ({})),
      NOTHING_ELSE,
    );
    assert.equal(found, "flat");
    assert.deepEqual(Object.keys(trends), METRICS);
    assert.deepEqual(trends.descriptors, {
      thirds: [51, 51, 51],
      growth: 0,
      allowed: 0,
      isGrowing: false,
    });
  });

  it("is flat while things go up and down", () => {
    const samples = soak(90, (at) => ({
      rssBytes: (90 + 8 * (at % 5)) * MIB,
      heapUsedBytes: (20 + (at % 7)) * MIB,
    }));
    assert.equal(verdict(samples), "flat");
  });

  it("does not count how things come up at the start, nor what falls", () => {
    assert.equal(verdict(soak(90, (at) => ({ rssBytes: (at < 9 ? 10 : 100) * MIB }))), "flat");
    assert.equal(verdict(soak(90, (at) => ({ rssBytes: (200 - at) * MIB }))), "flat");
  });

  for (const metric of METRICS) {
    it(`is growing if ${metric} grows steadily`, () => {
      const samples = soak(90, (at) => ({ [metric]: 50 * MIB + at * MIB }));
      assert.equal(trendOf(samples, metric)?.isGrowing, true);
      assert.equal(verdict(samples), "growing");
    });
  }

  it("is growing at one descriptor more, but counts those only when nothing is under way", () => {
    assert.equal(verdict(soak(90, (at) => ({ descriptors: at < 60 ? 51 : 52 }))), "growing");
    assert.equal(verdict(soak(90, (at, quiet) => ({ descriptors: quiet ? 51 : 60 + at }))), "flat");
  });

  it("allows as much as the tolerance and no more", () => {
    const allowed = 0.05 * 100 * MIB + 2 * MIB;
    const grown = (bytes: number) => soak(90, (at) => ({ rssBytes: 100 * MIB + (at < 50 ? 0 : bytes) }));
    assert.equal(verdict(grown(allowed)), "flat");
    assert.equal(verdict(grown(allowed + 1)), "growing");
  });

  it("says nothing after a run that was too short to tell, unless what there is grows", () => {
    assert.equal(verdict([]), "too-short");
    assert.equal(verdict(soak(20, () => ({}))), "too-short");
    assert.equal(verdict(soak(20, (at) => ({ rssBytes: 100 * MIB * (1 + at) }))), "growing");
  });

  it("puts wrong bytes before all else, and other failures before growth", () => {
    const growing = soak(90, (at) => ({ rssBytes: 50 * MIB + at * MIB }));
    assert.equal(verdictOf(growing, { corrupt: 1, failures: 1 }).verdict, "corrupt");
    assert.equal(verdictOf(growing, { corrupt: 0, failures: 1 }).verdict, "failed");
  });

  it("is an exit status", () => {
    const status = (["flat", "too-short", "growing", "corrupt", "failed"] as const).map(statusOf);
    assert.deepEqual(status, [0, 0, 1, 1, 1]);
  });
});
