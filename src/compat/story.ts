/**
 * The story of a cell: the notes in order with the long stretches folded, what each side believes bit 33 to mean, the
 * point where belief and fact part, and the whole in a few sentences. Made of facts; must not know any profile by name.
 */
import type { GuestDma } from "../profiles/guest-profile.js";
import { F, has } from "../virtio/index.js";
import type { CellFacts } from "./cell-run.js";
import type { Mark, Note } from "./chronicle.js";
import { foldNotes } from "./fold.js";
import type { Judgement } from "./judge.js";
import type { Actor, Step, Story } from "./record.js";

export function tellStory(facts: CellFacts, judgement: Judgement): Story {
  const beliefs = beliefsOf(facts);
  const notes = withBeliefs(facts.chronicle.notes, beliefs);
  const parting = judgement.verdict === "works" ? undefined : partingOf(facts, notes);
  const steps = foldNotes(notes, parting).map((note): Step => {
    const { kind, actor, text } = note;
    return note === parting ? { kind, actor, text, parting: true } : { kind, actor, text };
  });
  return { steps, beliefs, summary: summarise(facts, judgement, beliefs) };
}

// ---- beliefs -----------------------------------------------------------------------------------------------------

const GUEST_BELIEFS: Readonly<Record<GuestDma, string>> = {
  direct: "it is acknowledged and changes nothing: the DMA API gives out guest-physical addresses here",
  passthrough: "use the DMA API, which changes nothing here: the vIOMMU's domain is an identity",
  viommu:
    "use the DMA API: the device is given I/O virtual addresses, and reaches what is mapped and no more",
  restricted: "use the DMA API and bounce through the shared pool; all other memory is private",
  protected: "use the DMA API and bounce through the shared pool; a device without the bit is not to be used",
};

const WITHOUT_BIT_33: Readonly<Record<GuestDma, string>> = {
  direct: "not in play: the device takes guest-physical addresses and reaches all memory",
  passthrough: "not acknowledged, so the device goes by guest-physical addresses",
  viommu: "not acknowledged, so the DMA API is gone around: the device is given guest-physical addresses",
  restricted:
    "not acknowledged, so the DMA API and the shared pool are gone around: the device is given addresses in private memory",
  protected: "not offered; without it the device would be given addresses that it cannot reach",
};

function beliefsOf(facts: CellFacts): Record<Actor, string> {
  return { guest: guestBelief(facts), vmm: vmmBelief(facts), device: deviceBelief(facts) };
}

function guestBelief({ guest, guestHas33 }: CellFacts): string {
  if (guest.hostile !== undefined) {
    const bit = guestHas33 ? "acknowledged" : "skipped, and FEATURES_OK with it";
    return `${bit}; the driver maps nothing and hands out addresses of its choice`;
  }
  return guestHas33 ? GUEST_BELIEFS[guest.dma] : WITHOUT_BIT_33[guest.dma];
}

function vmmBelief({ vmm, negotiation, guestHas33, device }: CellFacts): string {
  const isTold = has(negotiation.sentToBackend, F.ACCESS_PLATFORM);
  const { program } = vmm;
  if (negotiation.translates) {
    const how = isTold ? "and the bit tells the device so" : "though the device is not told by this bit";
    return `${program} translates: ring addresses are I/O virtual, it answers questions about them, ${how}`;
  }
  if (isTold)
    return `a virtio feature like any other, which the guest acknowledged, so it is passed on; ${program} has no translation in mind`;
  if (guestHas33)
    return `between guest and VMM only; ${device.program} is not told, and nothing is translated`;
  return "not in play: the guest has not acknowledged it, and nothing is translated";
}

function deviceBelief({ device, deviceView, negotiation }: CellFacts): string {
  const { translation, because } = deviceView;
  const isTold = has(negotiation.sentToBackend, F.ACCESS_PLATFORM);
  if (device.behaviour.engine === "bit33") return because;
  if (translation === "on")
    return `the IOTLB is on, since ${because}: every address is I/O virtual, and nothing is reachable until it is mapped`;
  const bit = isTold ? "acknowledged, but no wish to translate" : "not acknowledged";
  return `${bit} (${because}): ring addresses are user addresses, buffers are guest-physical`;
}

/** Each belief stands behind what it follows from. */
function withBeliefs(notes: readonly Note[], beliefs: Readonly<Record<Actor, string>>): Note[] {
  const hasDecision = notes.some(({ mark }) => mark === "decided");
  const behind: readonly (readonly [Mark, Actor])[] = [
    ["acknowledged", "guest"],
    ["passed-on", "vmm"],
    ...(hasDecision ? [] : [["told", "device"] as const]),
  ];
  const result = [...notes];
  for (const [mark, actor] of behind) {
    const at = result.findIndex((note) => note.mark === mark);
    if (at >= 0)
      result.splice(at + 1, 0, { actor, kind: "belief", text: beliefs[actor], mark: `belief-${actor}` });
  }
  return result;
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
  if (refusal !== undefined) return ["failed"];
  if (guest.hostile !== undefined) return deviceView.translation === "off" ? device : ["failed"];
  const needsBit = guest.dma !== "direct" && guest.dma !== "passthrough";
  if (needsBit && !guestHas33) return ["guest-offer"];
  if (witness.count("stale") > 0) return ["invalidate-lost", "invalidate-told", "found-stale"];
  if ((deviceView.translation === "on") !== negotiation.translates) return device;
  return ["found-canary", "found-private", "found-withheld", "failed", "found-missing", "found-nowhere"];
}

// ---- the summary -------------------------------------------------------------------------------------------------

function summarise(facts: CellFacts, { verdict, reason }: Judgement, beliefs: Record<Actor, string>): string {
  const { chronicle, guest, vmm, device, guestHas33 } = facts;
  const text = (mark: Mark): string | undefined => chronicle.notes.find((note) => note.mark === mark)?.text;
  const sentences: string[] = [];
  const add = (subject: string, predicate: string | undefined): void => {
    if (predicate !== undefined) sentences.push(`${subject} ${withoutWords(predicate)}.`);
  };
  const offer = facts.chronicle.because.get("guest-offer");
  if (offer !== undefined) {
    const what = has(facts.negotiation.offeredToGuest, F.ACCESS_PLATFORM) ? "offered" : "not offered";
    sentences.push(`Bit 33 is ${what} to the guest: ${offer}.`);
  }
  if (text("acknowledged") !== undefined) {
    add("The guest", guestHas33 ? `acknowledges it: ${beliefs.guest}` : `goes without it: ${beliefs.guest}`);
  }
  const passed = facts.chronicle.because.get("passed-on");
  if (passed !== undefined) {
    const what = has(facts.negotiation.sentToBackend, F.ACCESS_PLATFORM)
      ? "is told of it"
      : "is not told of it";
    sentences.push(`The device ${what}: ${passed}.`);
    sentences.push(`To ${device.program} that means: ${withoutEnd(beliefs.device)}.`);
  }
  const first = facts.witness.first;
  const telling = first.get("private") ?? first.get("stale") ?? first.get("canary") ?? first.get("withheld");
  if (telling === undefined && verdict !== "works" && first.get("missing") !== undefined)
    add("The device", text("found-missing"));
  sentences.push(`${verdict === "works" ? "It works" : `The end: ${verdict}`}: ${withoutEnd(reason)}.`);
  void guest;
  void vmm;
  return sentences.join(" ");
}

const withoutEnd = (text: string): string => text.replace(/\.$/, "");
const withoutWords = withoutEnd;
