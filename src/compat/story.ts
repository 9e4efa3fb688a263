/**
 * The story of a cell: the notes in order with the long stretches folded, what each side believes bit 33 to mean, the
 * point where belief and fact part, and the whole in a few sentences. Made of facts; must not know any profile by name.
 */
import { F, has } from "../virtio/index.js";
import { beliefsOf } from "./beliefs.js";
import type { Mark, Note } from "./chronicle.js";
import type { CellFacts } from "./facts.js";
import { foldNotes } from "./fold.js";
import type { Judgement } from "./judge.js";
import type { Actor, Step, Story } from "./record.js";

type Beliefs = Readonly<Record<Actor, string>>;

export function tellStory(facts: CellFacts, judgement: Judgement): Story {
  const beliefs = beliefsOf(facts);
  const notes = withBeliefs(facts, beliefs);
  const parting = judgement.verdict === "works" ? undefined : partingOf(facts, notes);
  const steps = foldNotes(notes, parting).map((note): Step => {
    const { kind, actor, text } = note;
    return note === parting ? { kind, actor, text, parting: true } : { kind, actor, text };
  });
  return { steps, beliefs, summary: summarise(facts, judgement, beliefs) };
}

/** Each belief stands behind what it follows from. The device's own words are there already if it has any. */
function withBeliefs(facts: CellFacts, beliefs: Beliefs): Note[] {
  const { notes } = facts.chronicle;
  const hasDecision = notes.some(({ mark }) => mark === "decided");
  const behind: readonly (readonly [Mark, Actor])[] = [
    ["acknowledged", "guest"],
    ["passed-on", "vmm"],
    ...(hasDecision ? [] : [[convincing(facts), "device"] as const]),
  ];
  const result = [...notes];
  for (const [mark, actor] of behind) {
    const at = result.findIndex((note) => note.mark === mark);
    const text = uncapitalised(withoutEnd(beliefs[actor]));
    if (at >= 0) result.splice(at + 1, 0, { actor, kind: "belief", text, mark: `belief-${actor}` });
  }
  return result;
}

/** What a device that is told, and decides nothing by itself, goes by. */
function convincing({ device, deviceView }: CellFacts): Mark {
  const { behaviour } = device;
  const waits = behaviour.engine !== "bit33" && behaviour.iotlb.enabledBy === "first-message";
  return waits && deviceView.translation === "on" ? "iotlb" : "told";
}

// ---- the parting -------------------------------------------------------------------------------------------------

/** The step at which what one side believes stops being what is so; undefined where nobody was wrong. */
function partingOf(facts: CellFacts, notes: readonly Note[]): Note | undefined {
  for (const mark of partingMarks(facts)) {
    const found = notes.find((note) => note.mark === mark);
    if (found !== undefined) return found;
  }
  return undefined;
}

function partingMarks(facts: CellFacts): readonly Mark[] {
  const { guest, guestHas33, negotiation, deviceView, witness, refusal } = facts;
  const device: readonly Mark[] = ["decided", "belief-device"];
  const needsBit33 = guest.dma !== "direct" && guest.dma !== "passthrough";
  // Whoever says no before anything runs was wrong about nothing.
  if (refusal !== undefined) return [];
  if (guest.hostile !== undefined)
    return deviceView.translation === "off" ? device : ["failed", "found-missing"];
  if (needsBit33 && !guestHas33) return ["guest-offer"];
  if (witness.count("stale") > 0) return ["invalidate-lost", "invalidate-told", "found-stale"];
  if ((deviceView.translation === "on") !== negotiation.translates) return device;
  return ["found-canary", "found-private", "found-withheld", "failed", "found-missing", "found-nowhere"];
}

// ---- the summary -------------------------------------------------------------------------------------------------

function summarise(facts: CellFacts, judgement: Judgement, beliefs: Beliefs): string {
  const sentences = [
    offered(facts),
    acknowledged(facts, beliefs.guest),
    ...passedOn(facts, beliefs.device),
    turn(facts, judgement),
    `${judgement.verdict === "works" ? "It works" : "What comes of it"}: ${withoutEnd(judgement.reason)}.`,
  ];
  return sentences.filter((sentence) => sentence !== undefined).join(" ");
}

function offered({ chronicle, negotiation }: CellFacts): string {
  const because = chronicle.because.get("guest-offer");
  if (because === undefined) return "It does not come to an offer to the guest.";
  const isOffered = has(negotiation.offeredToGuest, F.ACCESS_PLATFORM);
  return `Bit 33 is ${isOffered ? "" : "not "}offered to the guest: ${because}.`;
}

function acknowledged({ chronicle, guest, guestHas33 }: CellFacts, belief: string): string | undefined {
  if (!chronicle.has("acknowledged")) return undefined;
  if (guest.hostile !== undefined) return `The guest's driver is hostile. ${belief}`;
  return guestHas33 ? `The guest acknowledges it, and takes it to mean: ${uncapitalised(belief)}` : belief;
}

function passedOn({ chronicle, device }: CellFacts, belief: string): readonly string[] {
  const because = chronicle.because.get("passed-on");
  if (because === undefined) return [];
  return [
    `Towards the device bit 33 is ${because}.`,
    `What ${device.program} makes of it: ${uncapitalised(belief)}`,
  ];
}

const TELLING = ["private", "stale", "canary", "withheld", "nowhere"] as const;

/** What the device then did that gave it away; the reason says the rest. */
function turn({ witness, places, chronicle }: CellFacts, { verdict }: Judgement): string | undefined {
  if (verdict === "works" || verdict === "refused") return undefined;
  const told = TELLING.map((kind) => witness.first.get(kind)).find((finding) => finding !== undefined);
  if (told === undefined) return undefined;
  const lost = chronicle.notes.find(({ mark }) => mark === "invalidate-lost");
  const before = lost !== undefined && told.kind === "stale" ? `The guest ${lost.text}. ` : "";
  return `${before}The device ${places.tell(told)}.`;
}

const withoutEnd = (text: string): string => text.replace(/\.$/, "");

/** Not the name of a thing that is written in capitals. */
const uncapitalised = (text: string): string =>
  /^[A-Z][a-z ]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
