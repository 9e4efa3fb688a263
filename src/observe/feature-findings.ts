/**
 * What the feature words of all sessions say of a VMM: which bits it hands to its guest, and which it passes on.
 */
import { DEFAULT_EXPLICIT_IOTLB_BIT, F, FEATURE_WORD_BITS, has, hex, mask, maskOf } from "../virtio/index.js";
import { type Bit33Observation, rulesThatFit } from "./bit33.js";
import type { FieldValue } from "./fields.js";
import { bits, type Finding, fits, seen, unseen } from "./finding.js";
import { type Run, sessionList } from "./run.js";

/** Bits that stand for themselves in a profile: 30 is between VMM and back-end, 33 has rules of its own. */
const APART = maskOf(F.PROTOCOL_FEATURES, F.ACCESS_PLATFORM);
const WHOLE_WORD = mask(FEATURE_WORD_BITS) - 1n;

/** What came back where it was offered, and stayed away where it was not. */
export function passed(run: Run): Finding<bigint> {
  const returned = returnedBits(run);
  const own = unofferedBits(run);
  const ones = returned & ~own & ~(run.base?.offer.own ?? 0n);
  const always = returned & alwaysOffered(run);
  const note = always === 0n ? "" : `; ${hex(always)} was offered every time, so may be its own`;
  if (run.told.length === 0) return unseen("SET_FEATURES never came");
  return bits(
    ones,
    APART,
    `${sessionList(run.told)}: ${hex(returned)} came back of what was offered${note}; ` +
      "of a bit that did not come back nothing is known: the guest may not know it",
  );
}

export function own(run: Run): Finding<bigint> {
  const unoffered = unofferedBits(run);
  if (unoffered === 0n)
    return unseen("no bit came back that was not offered; such bits may be masked on the way");
  const sessions = run.told.filter(
    ({ features, record }) => (features & unoffered & ~record.offer.features) !== 0n,
  );
  return bits(unoffered, APART, `${sessionList(sessions)}: ${hex(unoffered)} came back un-offered`);
}

export function maskedByDevice(run: Run): Finding<boolean> {
  const own = unofferedBits(run);
  if (own !== 0n) return seen(false, `${hex(own)} came back un-offered`);
  if (run.told.length === 0) return unseen("SET_FEATURES never came");
  const because = `${sessionList(run.told)}: no bit came back un-offered; whether the guest had one to give is not known`;
  return fits([false, true], because, run.base?.acknowledge.maskedByDevice);
}

export function adds(run: Run): Finding<bigint> {
  if (run.told.length === 0) return unseen("SET_FEATURES never came");
  const everytime = run.told.reduce((word, { features }) => word & features, WHOLE_WORD);
  const because = `${sessionList(run.told)}: each bit but ${hex(everytime)} stayed away once at least`;
  return bits(0n, (WHOLE_WORD & ~everytime) | APART, because);
}

export function masks(run: Run): Finding<bigint> {
  if (run.told.length === 0) return unseen("SET_FEATURES never came");
  const told = run.told.reduce((word, { features }) => word | features, 0n);
  return bits(0n, told, `${sessionList(run.told)}: ${hex(told)} came, so is not masked`);
}

export function bit33(run: Run): {
  offer: Finding<FieldValue<"offer.bit33">>;
  passing: Finding<FieldValue<"acknowledge.bit33">>;
} {
  const observations = run.told.map(
    ({ record, features }): Bit33Observation => ({
      machine: record.machine,
      deviceOffers: has(record.offer.features, F.ACCESS_PLATFORM),
      deviceTold: has(features, F.ACCESS_PLATFORM),
    }),
  );
  if (observations.length === 0) {
    return { offer: unseen("SET_FEATURES never came"), passing: unseen("SET_FEATURES never came") };
  }
  const rules = rulesThatFit(observations);
  const because = bit33Words(run);
  if (rules.length === 0) {
    const why = `${because}: no rule fits`;
    return { offer: unseen(why), passing: unseen(why) };
  }
  const { base } = run;
  const isBase = ({ offer, passing }: (typeof rules)[number]): boolean =>
    offer === base?.offer.bit33 && passing === base.acknowledge.bit33;
  const chosen = rules.find(isBase) ?? rules[0];
  const offers = [...new Set(rules.map(({ offer }) => offer))];
  const passings = [...new Set(rules.map(({ passing }) => passing))];
  return {
    offer: fits(offers, because, chosen.offer),
    passing: fits(passings, because, chosen.passing),
  };
}

function bit33Words(run: Run): string {
  const told = run.told.filter(({ features }) => has(features, F.ACCESS_PLATFORM));
  if (told.length === 0) return `${sessionList(run.told)}: bit 33 never came`;
  const unoffered = told.filter(({ record }) => !has(record.offer.features, F.ACCESS_PLATFORM));
  const without = run.told.filter(({ features }) => !has(features, F.ACCESS_PLATFORM));
  const words = [`${sessionList(told)}: bit 33 came`];
  if (unoffered.length > 0) words.push(`un-offered in ${sessionList(unoffered)}`);
  if (without.length > 0) words.push(`not in ${sessionList(without)}`);
  return words.join(", ");
}

export function protocolFeatures(run: Run): Finding<bigint> {
  const answered = run.all.filter(({ protocolFeatures }) => protocolFeatures !== undefined);
  const taken = answered.reduce((word, { protocolFeatures = 0n }) => word | protocolFeatures, 0n);
  // Whoever leaves after its answer has given it all the same.
  const offered = answered.reduce((word, { record }) => word | record.offer.protocolFeatures, 0n);
  if (answered.length === 0) return unseen("SET_PROTOCOL_FEATURES never came");
  const draft = mask(DEFAULT_EXPLICIT_IOTLB_BIT);
  const because = `${sessionList(answered)}: of ${hex(offered & ~draft)} it took ${hex(taken & ~draft)}`;
  return bits(taken & ~draft, (offered & ~taken) | draft, because);
}

/** Of what was offered, 30 and 33 apart. */
function returnedBits(run: Run): bigint {
  return (
    run.told.reduce((word, { features, record }) => word | (features & record.offer.features), 0n) & ~APART
  );
}

function unofferedBits(run: Run): bigint {
  return (
    run.told.reduce((word, { features, record }) => word | (features & ~record.offer.features), 0n) & ~APART
  );
}

function alwaysOffered(run: Run): bigint {
  return run.told.reduce((word, { record }) => word & record.offer.features, WHOLE_WORD) & ~APART;
}
