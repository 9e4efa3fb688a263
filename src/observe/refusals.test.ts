import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { factsOf, type SessionFacts } from "./facts.js";
import { type OfferId, type Play, playsFor } from "./offers.js";
import { refusalsOf } from "./refusals.js";
import { EMPTY_TRANSCRIPT, type SessionRecord } from "./transcript.js";

/** A run in which the front-end left at some offers, with these words. */
function run(
  left: Readonly<Partial<Record<OfferId, string>>>,
  plays: readonly Play[] = playsFor({ viommu: false }),
) {
  return plays.map((play, index): SessionFacts => {
    const says = left[play.offer.id];
    const record: SessionRecord = {
      ...play,
      number: index + 1,
      transcript: EMPTY_TRANSCRIPT,
      outcome: says === undefined ? "started" : "left",
      says,
      diedServing: false,
    };
    return factsOf(record);
  });
}

const conditions = (facts: readonly SessionFacts[]) => refusalsOf(facts).map(({ refusal }) => refusal.when);

describe("what a front-end refuses", () => {
  it("blames bit 33 as well where the same lack is accepted without it", () => {
    assert.deepEqual(conditions(run({ "no-reply-ack": "no" })), [
      ["device-offers-33", "device-lacks-reply-ack"],
    ]);
  });

  it("blames a lack alone where nothing accepts it", () => {
    assert.deepEqual(conditions(run({ minimal: "no", "no-reply-ack": "no", "no-protocol-features": "no" })), [
      ["device-lacks-reply-ack"],
    ]);
    assert.deepEqual(conditions(run({ "no-config": "no", "no-protocol-features": "other words" })), [
      ["device-lacks-config"],
      ["device-lacks-protocol-features"],
    ]);
  });

  it("takes the same words for the same refusal", () => {
    assert.deepEqual(conditions(run({ "no-config": "no", "no-protocol-features": "no" })), [
      ["device-lacks-config"],
    ]);
  });

  it("leaves out the program's name and option, which differ from one command line to the next", () => {
    const line = "qemu-system-x86_64: -device vhost-user-vsock-pci,chardev=c: CONFIG is missing";
    const [{ refusal, session }] = refusalsOf(run({ "no-config": line, "no-protocol-features": line }));
    assert.equal(refusal.says, "CONFIG is missing");
    assert.equal(refusal.at, "initialization");
    assert.equal(session, 7);
  });

  it("finds none where every offer is taken", () => {
    assert.deepEqual(refusalsOf(run({})), []);
  });
});
