import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Bit33Observation, type Bit33Rules, rulesThatFit } from "./bit33.js";

/** Which sessions brought bit 33: without a vIOMMU offered and not, behind one offered and not. */
function observations(pattern: string): Bit33Observation[] {
  const sessions = [
    { machine: "plain", deviceOffers: true },
    { machine: "plain", deviceOffers: false },
    { machine: "viommu", deviceOffers: true },
    { machine: "viommu", deviceOffers: false },
  ] as const;
  return [...pattern].map((mark, index) => ({ ...sessions[index], deviceTold: mark === "1" }));
}

const pairs = (rules: readonly Bit33Rules[]): string[] =>
  rules.map(({ offer, passing }) => `${offer}/${passing}`);

describe("what bit 33 says of a VMM", () => {
  it("a bit that comes behind the vIOMMU only, offered or not, is passed on behind it and offered by option", () => {
    const rules = rulesThatFit(observations("0011"));
    assert.equal(pairs(rules)[0], "by-option/behind-viommu");
    assert.deepEqual([...new Set(rules.map(({ passing }) => passing))], ["behind-viommu"]);
    assert.equal(pairs(rules).includes("as-offered/behind-viommu"), false, "it came un-offered");
  });

  it("a bit that comes where it is offered, and only there, leaves the rule to the device or to the passing", () => {
    const rules = pairs(rulesThatFit(observations("10")));
    assert.equal(rules[0], "as-offered/always");
    assert.ok(rules.includes("if-protected-and-offered/if-offered"));
    assert.ok(rules.includes("by-option/if-offered"));
    assert.equal(rules.includes("by-option/always"), false);
    assert.equal(rules.includes("always/always"), false);
  });

  it("a bit that always comes is neither masked nor the device's", () => {
    const rules = rulesThatFit(observations("11"));
    assert.deepEqual([...new Set(rules.map(({ passing }) => passing))], ["always"]);
    assert.equal(
      rules.some(({ offer }) => offer === "as-offered" || offer === "never"),
      false,
    );
  });

  it("a bit that never comes excludes only what would have let it through on every machine", () => {
    const rules = pairs(rulesThatFit(observations("00")));
    assert.equal(rules[0], "never/never");
    assert.ok(rules.includes("by-option/always"), "the option may be off");
    assert.equal(rules.includes("always/always"), false);
    assert.equal(rules.includes("as-offered/always"), false);
  });

  it("what no rule predicts fits none", () => {
    assert.deepEqual(rulesThatFit(observations("01")), []);
  });
});
