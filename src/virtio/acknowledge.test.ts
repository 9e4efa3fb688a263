import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { describeVerdict, judgeAcknowledged, UNOFFERED_RULES, unofferedRule } from "./acknowledge.js";
import { bitsOf, has, mask, maskOf } from "./bits.js";
import { virtioFeatures } from "./registry.js";
import { F } from "./transport-features.js";

const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const PLAIN = maskOf(F.VERSION_1, F.INDIRECT_DESC, F.EVENT_IDX, F.PROTOCOL_FEATURES);

test("every bit that the registry knows has a rule with a reason", () => {
  for (const { bit, name } of virtioFeatures("vsock")) {
    const rules = UNOFFERED_RULES.filter((rule) => rule.bit === bit);
    assert.equal(rules.length, 1, name);
    assert.notEqual(rules[0].reason, "");
  }
});

test("bit 33 is accepted though it was not offered", () => {
  const { accepted, refused, verdicts } = judgeAcknowledged(PLAIN, PLAIN | mask(F.ACCESS_PLATFORM));
  assert.equal(accepted, PLAIN | mask(F.ACCESS_PLATFORM));
  assert.equal(refused, 0n);
  assert.deepEqual(
    verdicts.map(({ name, decision }) => [name, decision]),
    [["ACCESS_PLATFORM", "accept"]],
  );
});

test("a packed ring that was not offered is refused with an explanation", () => {
  const { accepted, refused, verdicts } = judgeAcknowledged(PLAIN, PLAIN | mask(F.RING_PACKED));
  assert.equal(accepted, PLAIN);
  assert.equal(refused, mask(F.RING_PACKED));
  assert.match(
    describeVerdict(verdicts[0]),
    /^RING_PACKED \(34\) was acknowledged but not offered: refused, because/,
  );
});

test("what changes rings or memory is refused, what is a hint or the front-end's is ignored", () => {
  const decided = (bit: number) => unofferedRule(bit).decision;
  const refused = [
    F.LOG_ALL,
    F.INDIRECT_DESC,
    F.EVENT_IDX,
    F.VERSION_1,
    F.RING_PACKED,
    F.IN_ORDER,
    F.RING_RESET,
  ];
  for (const bit of refused) assert.equal(decided(bit), "refuse");
  for (const bit of [F.NOTIFY_ON_EMPTY, F.SR_IOV, F.NOTIFICATION_DATA, F.NOTIF_CONFIG_DATA, F.ADMIN_VQ]) {
    assert.equal(decided(bit), "ignore");
  }
});

test("an unknown bit is refused by number", () => {
  const { refused, verdicts } = judgeAcknowledged(PLAIN, PLAIN | mask(57));
  assert.equal(refused, mask(57));
  assert.match(describeVerdict(verdicts[0]), /^bit57 \(57\).*refused, because the bit is unknown/);
});

test("a bit that was offered is never judged", () => {
  fc.assert(
    fc.property(word, word, (offered, acknowledged) => {
      const { accepted, refused, verdicts } = judgeAcknowledged(offered, acknowledged);
      assert.equal(accepted & offered, acknowledged & offered);
      assert.equal(refused & (offered | accepted), 0n);
      assert.equal((accepted | refused) & ~acknowledged, 0n);
      assert.deepEqual(
        verdicts.map((verdict) => verdict.bit),
        bitsOf(acknowledged & ~offered),
      );
      for (const { bit, decision } of verdicts) {
        assert.equal(has(accepted, bit), decision === "accept");
        assert.equal(has(refused, bit), decision === "refuse");
      }
    }),
  );
});
