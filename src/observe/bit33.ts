/**
 * What bit 33 says of a VMM: every rule by which it may offer the bit to its guest, with every rule by which it may
 * pass the guest's answer on, is tried on every machine that the user may have set up, and those that predict what
 * came back are kept. The guest is taken for one that acknowledges the bit if it is offered.
 *
 * The two machines differ in the vIOMMU and nothing else: that is what the user was asked for.
 */
import type { OfferOfBit33, PassingOfBit33 } from "../profiles/vmm-profile.js";
import type { Machine } from "./offers.js";

/** One session, as far as bit 33 goes. */
export interface Bit33Observation {
  readonly machine: Machine;
  readonly deviceOffers: boolean;
  /** SET_FEATURES had it. */
  readonly deviceTold: boolean;
}

export interface Bit33Rules {
  readonly offer: OfferOfBit33;
  readonly passing: PassingOfBit33;
}

/** What the user may have configured, on both machines alike. */
interface Setup {
  readonly iommuPlatform: boolean;
  readonly protectedMemory: boolean;
}

/** The likeliest first: whoever observes bit 33 has switched it on, and memory is protected on few machines. */
const SETUPS: readonly Setup[] = [
  { iommuPlatform: true, protectedMemory: false },
  { iommuPlatform: false, protectedMemory: false },
  { iommuPlatform: true, protectedMemory: true },
  { iommuPlatform: false, protectedMemory: true },
];
const OFFERS: readonly OfferOfBit33[] = [
  "as-offered",
  "by-option",
  "if-protected-and-offered",
  "if-protected",
  "always",
  "never",
];
const PASSINGS: readonly PassingOfBit33[] = ["always", "if-offered", "behind-viommu", "never"];
/** Where nothing tells them apart: a VMM that does not know the bit is likelier than one that hides all traces of it. */
const LIKELIEST: Bit33Rules = { offer: "never", passing: "never" };

/** Every pair of rules that predicts all that was seen, the likeliest first. */
export function rulesThatFit(observations: readonly Bit33Observation[]): Bit33Rules[] {
  const found = new Map<string, Bit33Rules>();
  const fits = (rules: Bit33Rules, setup: Setup): boolean =>
    observations.every((seen) => predicts(rules, setup, seen));
  if (fits(LIKELIEST, SETUPS[0])) found.set("never never", LIKELIEST);
  for (const setup of SETUPS) {
    for (const offer of OFFERS) {
      for (const passing of PASSINGS) {
        const rules = { offer, passing };
        const key = `${offer} ${passing}`;
        if (!found.has(key) && fits(rules, setup)) found.set(key, rules);
      }
    }
  }
  return [...found.values()];
}

function predicts({ offer, passing }: Bit33Rules, setup: Setup, seen: Bit33Observation): boolean {
  const guestHas = isOffered(offer, setup, seen.deviceOffers);
  return (guestHas && isPassed(passing, setup, seen)) === seen.deviceTold;
}

function isOffered(
  offer: OfferOfBit33,
  { iommuPlatform, protectedMemory }: Setup,
  deviceOffers: boolean,
): boolean {
  switch (offer) {
    case "by-option":
      return iommuPlatform;
    case "if-protected":
      return protectedMemory;
    case "if-protected-and-offered":
      return protectedMemory && deviceOffers;
    case "as-offered":
      return deviceOffers;
    case "always":
      return true;
    case "never":
      return false;
  }
}

function isPassed(
  passing: PassingOfBit33,
  setup: Setup,
  { machine, deviceOffers }: Bit33Observation,
): boolean {
  switch (passing) {
    case "always":
      return true;
    case "if-offered":
      return deviceOffers;
    case "behind-viommu":
      return machine === "viommu" && setup.iommuPlatform;
    case "never":
      return false;
  }
}
