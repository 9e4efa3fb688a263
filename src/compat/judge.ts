/**
 * From facts to a verdict, and its reason in one clause. Several can be true of one cell; the worst counts. Pure; must
 * not know any profile by name.
 */
import { F, has } from "../virtio/index.js";
import type { CellFacts } from "./facts.js";
import { compareVerdicts, type Verdict } from "./record.js";

export interface Judgement {
  readonly verdict: Verdict;
  readonly reason: string;
}

type Judge = (facts: CellFacts) => string | undefined;

const JUDGES: Readonly<Record<Exclude<Verdict, "works">, Judge>> = {
  exposes: exposure,
  corrupts: corruption,
  faults: fault,
  crashes: ({ death }) => death && `${ACTORS[death.by]} dies: ${death.text}`,
  stalls: stall,
  "fails-to-start": failureToStart,
  refused: (facts) => {
    const { refusal } = facts;
    if (refusal !== undefined) return `${ACTORS[refusal.by]} declines: ${refusal.text}`;
    const words = declined(facts);
    return words && `the device declines: ${uncapitalised(words)}`;
  },
};

const ACTORS = { guest: "the guest", vmm: "the VMM", device: "the device" } as const;

export function judge(facts: CellFacts): Judgement {
  const found = Object.entries(JUDGES).flatMap(([verdict, why]) => {
    const reason = why(facts);
    return reason === undefined ? [] : [{ verdict: verdict as Verdict, reason }];
  });
  const worst = found.reduce<Judgement | undefined>(
    (a, b) => (a === undefined || compareVerdicts(b.verdict, a.verdict) > 0 ? b : a),
    undefined,
  );
  if (worst === undefined) return { verdict: "works", reason: whyItWorks(facts) };
  const { hostile } = facts.guest;
  const isContained = hostile !== undefined && compareVerdicts(worst.verdict, "stalls") <= 0;
  return isContained ? { ...worst, reason: `contained: ${worst.reason}` } : worst;
}

function failureToStart(facts: CellFacts): string | undefined {
  const { startFailure, witness, places, chronicle, deviceView, negotiation } = facts;
  // A device that says why it declines is no failure, though the message that brought it to that fails as well.
  if (startFailure === undefined || declined(facts) !== undefined) return undefined;
  const what = startFailure.text.replace(/^(VHOST_\w+): (E[A-Z]+)$/, "$1 gives -$2");
  const missing = witness.first.get("missing");
  if (missing !== undefined) {
    const where = chronicle.updates === 0 ? "an empty IOTLB" : "the IOTLB, and is not there";
    return `${what}: ${places.describe(missing)} is looked up in ${where}`;
  }
  const isMixedUp = negotiation.translates && deviceView.translation === "off" && /RUNNING|ADDR/.test(what);
  return isMixedUp ? `${what}: rings are at I/O virtual addresses, which it takes for user addresses` : what;
}

function exposure({ witness, canary, guest, places, startFailure }: CellFacts): string | undefined {
  const reached = witness.first.get("canary");
  if (guest.hostile !== undefined && (reached ?? witness.first.get("withheld")) !== undefined) {
    const what = reached === undefined ? "rings" : "rings and buffers";
    const end = startFailure === undefined ? "" : ", until the VMM gives the start up";
    return `${what} at addresses of the driver's choice are reached, though nothing is mapped${end}`;
  }
  if (reached !== undefined || canary?.cameOut === true || canary?.changed === true) {
    const way = reached === undefined ? "" : ` by its ${WAYS[reached.space]} address`;
    return `a page that the vIOMMU never mapped is reached${way}`;
  }
  const withheld = witness.first.get("withheld");
  return withheld && `the device reaches ${places.describe(withheld)}, which the vIOMMU does not map`;
}

const WAYS = { gpa: "guest-physical", uva: "user", iova: "I/O virtual" } as const;

function corruption({ witness, traffic }: CellFacts): string | undefined {
  const stale = witness.first.get("stale");
  const wrong = traffic?.streams.find(({ differsAt }) => differsAt !== undefined);
  if (stale !== undefined) {
    const data = wrong === undefined ? "" : `; ${wrong.what} is wrong from byte ${wrong.differsAt} on`;
    return `the device uses a mapping that the guest has taken back${data}`;
  }
  return wrong && `${wrong.what} is wrong from byte ${wrong.differsAt} on`;
}

function fault({ witness }: CellFacts): string | undefined {
  const touched = witness.first.get("private");
  if (touched === undefined) return undefined;
  const what = touched.use === "ring" ? "a ring" : "a buffer";
  return `the device touches ${what} in the guest's private memory`;
}

function stall(facts: CellFacts): string | undefined {
  const { traffic, breakdown, death, end } = facts;
  if (traffic === undefined || death !== undefined) return undefined;
  if (end === "done" && traffic.state === "done" && breakdown === undefined) return undefined;
  return declined(facts) === undefined ? waiting(facts) : undefined;
}

/**
 * The device has run no ring, and said why: its words. Of a modelled device's program no words are known, and one that
 * lets a ring wait for ever has told nobody.
 */
function declined({ device, deviceView, chronicle, witness }: CellFacts): string | undefined {
  if (device.behaviour.engine !== "bit33") return undefined;
  if (witness.count("first-ring") > 0 || chronicle.logged.has("ring-start")) return undefined;
  if (deviceView.translation === "refused" && chronicle.has("decided")) return deviceView.because;
  return chronicle.logged.get("ring-held")?.message;
}

function waiting({ waitsFor, breakdown, chronicle, witness, traffic, places }: CellFacts): string {
  if (breakdown !== undefined) return `the session breaks: ${breakdown.text}`;
  const questions = chronicle.has("iotlb");
  if (waitsFor !== undefined) {
    const asked = questions ? "is asked for and never comes" : "is missing, and nobody is asked for it";
    return `a mapping for ${places.describe(waitsFor)} ${asked}`;
  }
  const broken = chronicle.logged.get("ring-broken") ?? chronicle.logged.get("ring-held");
  if (broken !== undefined) return broken.message;
  const nowhere = witness.first.get("nowhere");
  if (nowhere !== undefined) return `${places.describe(nowhere)} is looked up, and nothing is there`;
  return traffic?.problem ?? "no data moves, and nobody has anything left to do";
}

function whyItWorks({ negotiation, deviceView, guestHas33 }: CellFacts): string {
  if (deviceView.translation === "on") return "every address goes through the IOTLB, which the VMM fills";
  if (!guestHas33) return "bit 33 is not acknowledged, and addresses are not translated";
  return has(negotiation.sentToBackend, F.ACCESS_PLATFORM)
    ? "bit 33 reaches the device, which does not take it for a wish to translate"
    : "bit 33 stays between guest and VMM, and addresses are not translated";
}

function uncapitalised(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
