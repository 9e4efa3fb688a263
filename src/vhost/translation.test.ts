import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Evidence,
  judge,
  Translation,
  type TranslationOption,
  type TranslationState,
} from "./translation.js";
import { explain, REASONS, type ReasonId } from "./translation-reasons.js";

const OPTIONS: readonly TranslationOption[] = ["auto", "on", "off", "explicit"];
const YES_NO = [false, true];

/** Every combination of evidence that there is. */
function* allEvidence(): Generator<Evidence> {
  for (const accessPlatform of YES_NO)
    for (const explicitFeature of YES_NO)
      for (const channel of YES_NO)
        for (const iotlbMessage of YES_NO)
          for (const rings of ["none-ready", "inside", "outside"] as const)
            for (const probation of ["not-begun", "running", "over"] as const)
              for (const translatedBefore of YES_NO)
                yield {
                  accessPlatform,
                  explicitFeature,
                  channel,
                  iotlbMessage,
                  rings,
                  probation,
                  translatedBefore,
                };
}

/** The table of ARCHITECTURE.md, row by row: the first row whose evidence matches decides. */
const ROWS: readonly [TranslationOption, Partial<Evidence>, TranslationState, ReasonId][] = [
  ["off", {}, "off", "option-off"],
  ["on", {}, "on", "option-on"],
  ["explicit", { explicitFeature: true }, "on", "explicit-negotiated"],
  ["explicit", { explicitFeature: false }, "off", "explicit-not-negotiated"],
  ["auto", { accessPlatform: false, rings: "none-ready" }, "undecided", "no-ring-ready"],
  ["auto", { accessPlatform: false, rings: "inside" }, "off", "bit-33-absent"],
  ["auto", { accessPlatform: false, rings: "outside" }, "refused", "outside-without-bit-33"],
  ["auto", { accessPlatform: true, iotlbMessage: true, channel: true }, "on", "iotlb-message"],
  ["auto", { accessPlatform: true, iotlbMessage: true, channel: false }, "refused", "no-channel-to-ask"],
  ["auto", { accessPlatform: true, rings: "none-ready" }, "undecided", "no-ring-ready"],
  ["auto", { accessPlatform: true, rings: "outside", channel: true }, "on", "ring-outside"],
  ["auto", { accessPlatform: true, rings: "outside", channel: false }, "refused", "no-channel-to-ask"],
  ["auto", { accessPlatform: true, rings: "inside", channel: false }, "off", "inside-without-channel"],
  ["auto", { accessPlatform: true, rings: "inside", translatedBefore: true }, "on", "translated-before"],
  ["auto", { accessPlatform: true, rings: "inside", probation: "over" }, "off", "silence"],
  ["auto", { accessPlatform: true, rings: "inside" }, "undecided", "probation"],
];

test("every combination of option and evidence is judged as the table says", () => {
  const seen = new Set<string>();
  for (const option of OPTIONS) {
    for (const evidence of allEvidence()) {
      const row = ROWS.find(
        ([ofOption, wanted]) =>
          ofOption === option &&
          Object.entries(wanted).every(([fact, value]) => evidence[fact as keyof Evidence] === value),
      );
      assert.ok(row, `no row for ${option} ${JSON.stringify(evidence)}`);
      assert.deepEqual(judge(option, evidence), { state: row[2], reason: row[3] });
      seen.add(row[3]);
    }
  }
  assert.deepEqual([...seen].sort(), Object.keys(REASONS).sort(), "every reason occurs");
});

test("every reason explains itself in a sentence that names no code", () => {
  for (const reason of Object.keys(REASONS) as ReasonId[]) {
    const text = explain(reason, {
      ring: "the used ring of queue 0 at 0x1000 lies outside",
      probationMs: 50,
    });
    assert.match(text, /^[A-Z].*\.$/s);
    assert.doesNotMatch(text, /undefined|NaN|\(\)/);
  }
});

test("bit 33 without translation: silence during the probation decides off", () => {
  const translation = new Translation("auto", 50);
  translation.channelOpened();
  translation.beginEpoch(true, true);
  assert.equal(translation.reason, "no-ring-ready");
  translation.ringsReady("inside", "all ring areas lie in the memory table");
  assert.ok(translation.onProbation);
  translation.probationOver();
  assert.deepEqual([translation.state, translation.reason], ["off", "silence"]);
  assert.deepEqual(translation.record.evidence, [
    "option auto",
    "bit 33 acknowledged",
    "back-end channel present",
    "all ring areas lie in the memory table",
    "no IOTLB message within 50 ms",
  ]);
});

test("bit 33 with translation: an IOTLB message during the probation decides on", () => {
  const translation = new Translation("auto", 50);
  translation.beginEpoch(true, true);
  translation.ringsReady("inside", "");
  assert.deepEqual(translation.iotlbMessage(), { action: "take" });
  assert.deepEqual([translation.state, translation.reason], ["on", "iotlb-message"]);
});

test("an IOTLB message in a session decided off is refused and closes it", () => {
  const translation = new Translation("auto", 50);
  translation.beginEpoch(true, true);
  translation.ringsReady("inside", "");
  translation.probationOver();
  assert.deepEqual(translation.iotlbMessage(), { action: "refuse", reason: "silence", closes: true });
  assert.equal(translation.state, "off");
});

test("an IOTLB message is refused without closing where the option says off, or explicit was not negotiated", () => {
  for (const option of ["off", "explicit"] as const) {
    const translation = new Translation(option, 50);
    translation.beginEpoch(true, true);
    const verdict = translation.iotlbMessage();
    assert.ok(verdict.action === "refuse" && !verdict.closes);
  }
});

test("an IOTLB message before bit 33 is acknowledged is refused and decides nothing", () => {
  const translation = new Translation("auto", 50);
  translation.beginEpoch(false, true);
  const verdict = translation.iotlbMessage();
  assert.ok(verdict.action === "refuse" && !verdict.closes);
  assert.equal(translation.state, "undecided");
});

test("without a channel to ask on, a session that translates is refused until it gives one", () => {
  const translation = new Translation("auto", 50);
  translation.beginEpoch(true, false);
  translation.ringsReady("outside", "the used ring of queue 0 at 0xfffff000 lies outside");
  assert.deepEqual([translation.state, translation.reason], ["refused", "no-channel-to-ask"]);
  translation.channelOpened();
  assert.deepEqual([translation.state, translation.reason], ["on", "ring-outside"]);
});

test("a new epoch without bit 33 is decided anew, and one with it translates at once if the session did before", () => {
  const translation = new Translation("auto", 50);
  translation.beginEpoch(true, true);
  translation.ringsReady("outside", "");
  assert.equal(translation.state, "on");
  translation.beginEpoch(false, true);
  translation.ringsReady("inside", "");
  assert.deepEqual([translation.state, translation.reason], ["off", "bit-33-absent"]);
  translation.beginEpoch(true, true);
  translation.ringsReady("inside", "");
  assert.deepEqual([translation.state, translation.reason], ["on", "translated-before"]);
});

test("rings that are disabled again during the probation begin it anew", () => {
  const translation = new Translation("auto", 50);
  translation.beginEpoch(true, true);
  translation.ringsReady("inside", "");
  translation.ringsGone();
  assert.ok(!translation.onProbation);
  translation.ringsReady("inside", "");
  assert.equal(translation.evidence.probation, "running");
});

test("whatever happens within an epoch, a decision stays, and only on and off let rings run", () => {
  const step = fc.constantFrom(
    "inside",
    "outside",
    "gone",
    "channel",
    "message",
    "over",
    "epoch",
    "epoch-33",
  );
  fc.assert(
    fc.property(fc.constantFrom(...OPTIONS), fc.array(step, { maxLength: 30 }), (option, steps) => {
      const translation = new Translation(option, 50);
      for (const name of steps) {
        const before = translation.decided ? translation.state : undefined;
        if (name === "epoch" || name === "epoch-33") translation.beginEpoch(name === "epoch-33", false);
        else if (name === "inside" || name === "outside") translation.ringsReady(name, "note");
        else if (name === "gone") translation.ringsGone();
        else if (name === "channel") translation.channelOpened();
        else if (name === "message") translation.iotlbMessage();
        else translation.probationOver();
        if (before !== undefined && !name.startsWith("epoch")) assert.equal(translation.state, before);
        assert.equal(translation.decided, translation.state === "on" || translation.state === "off");
        if (translation.option === "on") assert.equal(translation.state, "on");
      }
    }),
  );
});
