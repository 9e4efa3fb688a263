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
  const conditions = (facts: SessionFacts): Condition[] =>
    PLAYED.filter(([, holds]) => holds(facts.record)).map(([condition]) => condition);
  const taken = all.filter(({ record }) => record.outcome === "started").map(conditions);
  const found: SeenRefusal[] = [];
  for (const facts of all.filter(({ record }) => record.outcome === "left")) {
    const holding = conditions(facts);
    const says = wordsOf(facts.record.says ?? "");
    // The same words for what was met before, and it holds here as well: the same refusal.
    const isKnown = found.some(
      ({ refusal }) =>
        refusal.says === says && refusal.when.every((condition) => holding.includes(condition)),
    );
    const when = isKnown ? undefined : fewest(holding, taken);
    if (when === undefined) continue;
    const at = facts.features === undefined ? "initialization" : "start";
    found.push({ refusal: { when, says, at }, session: facts.record.number });
  }
  return found;
}

/** Without what programs put in front of an error: their own name, and which option it is about. */
function wordsOf(line: string): string {
  return line.replace(/^[\w./-]+: (-{1,2}\S+ \S+: )?/, "");
}

/** The smallest set of conditions that no taken offer meets; undefined if there is none: what it left at is unknown. */
function fewest(
  holding: readonly Condition[],
  taken: readonly (readonly Condition[])[],
): Condition[] | undefined {
  // In the order of size, and of two of a size the one with later conditions first.
  const sets = subsets(holding).sort((a, b) => a.length - b.length || (isLater(a, b) ? -1 : 1));
  return sets.find(
    (when) => when.length > 0 && !taken.some((met) => when.every((condition) => met.includes(condition))),
  );
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
