/**
 * What a front-end refuses: from the offers that it left at and those that it took, the fewest conditions that hold in
 * a session that it left, and in none that it took.
 */
import type { Condition, Refusal } from "../profiles/vmm-profile.js";
import { F, has, PROTOCOL_F } from "../virtio/index.js";
import type { SessionFacts } from "./facts.js";
import type { Play } from "./offers.js";

/** A refusal, and the session in which it was met. */
export interface SeenRefusal {
  readonly refusal: Refusal;
  readonly session: number;
}

/** What can be varied by an offer, from the general to the special: of two that explain the same, the later is taken. */
const PLAYED: readonly (readonly [Condition, (play: Play) => boolean])[] = [
  ["viommu", ({ machine }) => machine === "viommu"],
  ["device-lacks-33", ({ offer }) => !has(offer.features, F.ACCESS_PLATFORM)],
  ["device-offers-33", ({ offer }) => has(offer.features, F.ACCESS_PLATFORM)],
  ["device-lacks-memory-slots", ({ offer }) => !has(offer.protocolFeatures, PROTOCOL_F.CONFIGURE_MEM_SLOTS)],
  ["device-lacks-mq", ({ offer }) => !has(offer.protocolFeatures, PROTOCOL_F.MQ)],
  ["device-lacks-backend-req", ({ offer }) => !has(offer.protocolFeatures, PROTOCOL_F.BACKEND_REQ)],
  ["device-lacks-reply-ack", ({ offer }) => !has(offer.protocolFeatures, PROTOCOL_F.REPLY_ACK)],
  ["device-lacks-config", ({ offer }) => !has(offer.protocolFeatures, PROTOCOL_F.CONFIG)],
  ["device-lacks-protocol-features", ({ offer }) => !has(offer.features, F.PROTOCOL_FEATURES)],
];

/** Whether any session could show a refusal on these conditions. */
export function isPlayed(when: readonly Condition[], machines: { readonly viommu: boolean }): boolean {
  const played = PLAYED.map(([condition]) => condition).filter(
    (condition) => condition !== "viommu" || machines.viommu,
  );
  return when.every((condition) => played.includes(condition));
}

export function refusalsOf(all: readonly SessionFacts[]): SeenRefusal[] {
  const taken = all.filter(({ record }) => record.outcome === "started").map(conditionsOf);
  const left = all
    .filter(({ record }) => record.outcome === "left")
    .map((facts) => ({ facts, holding: conditionsOf(facts), fewest: fewest(conditionsOf(facts), taken) }))
    // Where there is but one explanation first: its words then explain sessions that lack more than one thing.
    .sort((a, b) => a.fewest.length - b.fewest.length);
  const found: SeenRefusal[] = [];
  for (const { facts, holding, fewest } of left) {
    const says = wordsOf(facts.record.says ?? "");
    const isKnown = found.some(
      ({ refusal }) =>
        refusal.says === says && refusal.when.every((condition) => holding.includes(condition)),
    );
    const when = fewest[0];
    if (isKnown || when === undefined) continue;
    const at = facts.features === undefined ? "initialization" : "start";
    found.push({ refusal: { when, says, at }, session: facts.record.number });
  }
  return found.sort((a, b) => a.session - b.session);
}

function conditionsOf({ record }: SessionFacts): Condition[] {
  return PLAYED.filter(([, holds]) => holds(record)).map(([condition]) => condition);
}

/** Without what programs put in front of an error: their own name, and which option it is about. */
function wordsOf(line: string): string {
  return line.replace(/^[\w./-]+: (-{1,2}\S+ \S+: )?/, "");
}

/**
 * The smallest sets of conditions that no taken offer meets, all of a size, the one with the latest conditions first.
 * None if a taken offer meets everything that holds: what it left at is unknown.
 */
function fewest(
  holding: readonly Condition[],
  taken: readonly (readonly Condition[])[],
): readonly (readonly Condition[])[] {
  const isMet = (when: readonly Condition[]): boolean =>
    taken.some((met) => when.every((condition) => met.includes(condition)));
  const sets = subsets(holding).filter((when) => when.length > 0 && !isMet(when));
  const size = Math.min(...sets.map((when) => when.length));
  return sets.filter((when) => when.length === size).sort((a, b) => (isLater(a, b) ? -1 : 1));
}

function isLater(one: readonly Condition[], other: readonly Condition[]): boolean {
  const rank = (when: readonly Condition[]): number =>
    when.reduce((sum, condition) => sum + 2 ** PLAYED.findIndex(([name]) => name === condition), 0);
  return rank(one) > rank(other);
}

function subsets<T>(items: readonly T[]): T[][] {
  const sets: T[][] = [[]];
  for (const item of items) sets.push(...sets.map((set) => [...set, item]));
  return sets;
}
