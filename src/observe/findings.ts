/**
 * From the facts of all sessions to one finding a field of a VMM profile. Nothing is claimed that was not seen: a field
 * that two values fit has both.
 */
import type { OrderEntry, Step, VmmProfile } from "../profiles/vmm-profile.js";
import { RING_STEPS, SETUP_STEPS } from "../profiles/vmm-profile.js";
import {
  DEFAULT_EXPLICIT_IOTLB_BIT,
  F,
  FEATURE_WORD_BITS,
  has,
  hex,
  mask,
  maskOf,
  PROTOCOL_F,
} from "../virtio/index.js";
import { type Bit33Observation, rulesThatFit } from "./bit33.js";
import { hasStarted, type SessionFacts, startOrder } from "./facts.js";
import { FIELD_NAMES, FIELDS, type FieldName, type FieldValue } from "./fields.js";
import { bits, type Finding, fits, isSame, isSameSet, seen, unseen } from "./finding.js";
import type { Machine, OfferId } from "./offers.js";
import { isPlayed, refusalsOf } from "./refusals.js";

export type Findings = { readonly [Name in FieldName]: Finding<FieldValue<Name>> };

/** Bits that stand for themselves in a profile: 30 is between VMM and back-end, 33 has rules of its own. */
const APART = maskOf(F.PROTOCOL_FEATURES, F.ACCESS_PLATFORM);
const WHOLE_WORD = mask(FEATURE_WORD_BITS) - 1n;

/** @param base the profile that decides where several values fit what was seen */
export function findingsOf(all: readonly SessionFacts[], base: VmmProfile | undefined): Findings {
  const run = new Run(all, base);
  return {
    "machine.viommu": run.viommu(),
    "machine.protectedMemory": unseen(whyNever("machine.protectedMemory")),
    "offer.passed": run.passed(),
    "offer.own": run.own(),
    "offer.bit33": run.bit33().offer,
    "acknowledge.maskedByDevice": run.maskedByDevice(),
    "acknowledge.adds": run.adds(),
    "acknowledge.masks": run.masks(),
    "acknowledge.bit33": run.bit33().passing,
    asksDevice: run.asksDevice(),
    protocolFeatures: run.protocolFeatures(),
    backendFeatures: unseen(whyNever("backendFeatures")),
    backendChannel: run.backendChannel(),
    order: run.order(),
    queues: run.queues(),
    earlyRings: run.ofStarts("ring steps before SET_FEATURES", ({ earlyRings }) => earlyRings),
    needReply: run.needReply(),
    memory: run.memory(),
    resetsDevice: run.resetsDevice(),
    configFlags: run.configFlags(),
    "iotlb.serves": run.serves(),
    "iotlb.translates": run.translates(),
    "iotlb.enables": run.enables(),
    "iotlb.enablesBit": run.enablesBit(),
    "iotlb.invalidates": run.invalidates(),
    "iotlb.unexpectedMiss": run.unexpectedMiss(),
    ringAddresses: run.ringAddresses(),
    refuses: run.refuses(),
  };
}

/** Fields that no observation can show, for documentation. */
export const UNSHOWN_FIELDS: readonly FieldName[] = FIELD_NAMES.filter(
  (name) => FIELDS[name].shownBy === undefined,
);

function whyNever(name: FieldName): string {
  return name === "backendFeatures" ? "a matter of the kernel's devices" : "nothing on the socket shows it";
}

const sessionList = (sessions: readonly SessionFacts[]): string =>
  numberList(sessions.map(({ record }) => record.number));

function numberList(numbers: readonly number[]): string {
  return `${numbers.length === 1 ? "session" : "sessions"} ${numbers.join(", ")}`;
}

class Run {
  /** Sessions in which SET_FEATURES came. */
  readonly #told: readonly (SessionFacts & { readonly features: bigint })[];
  readonly #started: readonly SessionFacts[];
  /** Where most can be seen: translating if there is such a start, and with the fullest offer. */
  readonly #best: SessionFacts | undefined;

  constructor(
    private readonly all: readonly SessionFacts[],
    private readonly base: VmmProfile | undefined,
  ) {
    this.#told = all.filter(
      (facts): facts is SessionFacts & { features: bigint } => facts.features !== undefined,
    );
    this.#started = all.filter(hasStarted);
    const isFull = ({ record }: SessionFacts): boolean => record.offer.id !== "minimal";
    this.#best =
      this.#started.find((facts) => this.#isTranslated(facts)) ??
      this.#started.find(isFull) ??
      this.#started[0];
  }

  #isTranslated({ ringAddresses, iotlb }: SessionFacts): boolean {
    return ringAddresses.includes("iova") || iotlb.unasked + iotlb.answers > 0;
  }

  #on(machine: Machine): readonly SessionFacts[] {
    return this.#started.filter(({ record }) => record.machine === machine);
  }

  #offering(id: OfferId): readonly SessionFacts[] {
    return this.all.filter(({ record }) => record.offer.id === id);
  }

  #hasPlayed(machine: Machine): boolean {
    return this.all.some(({ record }) => record.machine === machine);
  }

  viommu(): Finding<boolean> {
    const translated = this.#on("viommu").filter((facts) => this.#isTranslated(facts));
    if (translated.length > 0) return seen(true, `${sessionList(translated)}: it translates there`);
    const why = this.#hasPlayed("viommu")
      ? "nothing was translated there"
      : "no machine with a vIOMMU was started";
    return unseen(why);
  }

  /** What came back where it was offered, and stayed away where it was not. */
  passed(): Finding<bigint> {
    const returned = this.#returned();
    const own = this.#unofferedReturned();
    const ones = returned & ~own & ~(this.base?.offer.own ?? 0n);
    const always = returned & this.#offeredEverywhere();
    const note = always === 0n ? "" : `; ${hex(always)} was offered every time, so may be its own`;
    if (this.#told.length === 0) return unseen("SET_FEATURES never came");
    return bits(
      ones,
      APART,
      `${sessionList(this.#told)}: ${hex(returned)} came back of what was offered${note}; ` +
        "of a bit that did not come back nothing is known: the guest may not know it",
    );
  }

  /** Of what was offered, 30 and 33 apart. */
  #returned(): bigint {
    return (
      this.#told.reduce((word, { features, record }) => word | (features & record.offer.features), 0n) &
      ~APART
    );
  }

  #unofferedReturned(): bigint {
    return (
      this.#told.reduce((word, { features, record }) => word | (features & ~record.offer.features), 0n) &
      ~APART
    );
  }

  #offeredEverywhere(): bigint {
    return this.#told.reduce((word, { record }) => word & record.offer.features, WHOLE_WORD) & ~APART;
  }

  own(): Finding<bigint> {
    const own = this.#unofferedReturned();
    if (own === 0n)
      return unseen("no bit came back that was not offered; such bits may be masked on the way");
    const sessions = this.#told.filter(
      ({ features, record }) => (features & own & ~record.offer.features) !== 0n,
    );
    return bits(own, APART, `${sessionList(sessions)}: ${hex(own)} came back un-offered`);
  }

  maskedByDevice(): Finding<boolean> {
    const own = this.#unofferedReturned();
    if (own !== 0n) return seen(false, `${hex(own)} came back un-offered`);
    if (this.#told.length === 0) return unseen("SET_FEATURES never came");
    const because = `${sessionList(this.#told)}: no bit came back un-offered; whether the guest had one to give is not known`;
    return fits([false, true], because, this.base?.acknowledge.maskedByDevice);
  }

  adds(): Finding<bigint> {
    if (this.#told.length === 0) return unseen("SET_FEATURES never came");
    const everytime = this.#told.reduce((word, { features }) => word & features, WHOLE_WORD);
    const because = `${sessionList(this.#told)}: each bit but ${hex(everytime)} stayed away once at least`;
    return bits(0n, (WHOLE_WORD & ~everytime) | APART, because);
  }

  masks(): Finding<bigint> {
    if (this.#told.length === 0) return unseen("SET_FEATURES never came");
    const told = this.#told.reduce((word, { features }) => word | features, 0n);
    return bits(0n, told, `${sessionList(this.#told)}: ${hex(told)} came, so is not masked`);
  }

  bit33(): { offer: Finding<FieldValue<"offer.bit33">>; passing: Finding<FieldValue<"acknowledge.bit33">> } {
    const observations = this.#told.map(
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
    const because = this.#bit33Words();
    if (rules.length === 0) {
      const why = `${because}: no rule fits`;
      return { offer: unseen(why), passing: unseen(why) };
    }
    const { base } = this;
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

  #bit33Words(): string {
    const told = this.#told.filter(({ features }) => has(features, F.ACCESS_PLATFORM));
    if (told.length === 0) return `${sessionList(this.#told)}: bit 33 never came`;
    const unoffered = told.filter(({ record }) => !has(record.offer.features, F.ACCESS_PLATFORM));
    const without = this.#told.filter(({ features }) => !has(features, F.ACCESS_PLATFORM));
    const words = [`${sessionList(told)}: bit 33 came`];
    if (unoffered.length > 0) words.push(`un-offered in ${sessionList(unoffered)}`);
    if (without.length > 0) words.push(`not in ${sessionList(without)}`);
    return words.join(", ");
  }

  asksDevice(): Finding<VmmProfile["asksDevice"]> {
    const asked = this.#told.filter(({ askedFirst }) => askedFirst);
    if (asked.length === 0) return unseen("GET_FEATURES did not come first");
    return seen("before-guest", `${sessionList(asked)}: GET_FEATURES came before anything of the guest's`);
  }

  protocolFeatures(): Finding<bigint> {
    const answered = this.all.filter(({ protocolFeatures }) => protocolFeatures !== undefined);
    const taken = answered.reduce((word, { protocolFeatures = 0n }) => word | protocolFeatures, 0n);
    // Whoever leaves after its answer has given it all the same.
    const offered = answered.reduce((word, { record }) => word | record.offer.protocolFeatures, 0n);
    if (answered.length === 0) return unseen("SET_PROTOCOL_FEATURES never came");
    const draft = mask(DEFAULT_EXPLICIT_IOTLB_BIT);
    const because = `${sessionList(answered)}: of ${hex(offered & ~draft)} it took ${hex(taken & ~draft)}`;
    return bits(taken & ~draft, (offered & ~taken) | draft, because);
  }

  backendChannel(): Finding<VmmProfile["backendChannel"]> {
    const could = this.#told.filter(({ protocolFeatures = 0n }) =>
      has(protocolFeatures, PROTOCOL_F.BACKEND_REQ),
    );
    const given = could.find(({ channel }) => channel !== "never");
    if (given !== undefined) {
      const when = given.channel === "in-order" ? "after" : "before";
      return seen(
        given.channel,
        `session ${given.record.number}: SET_BACKEND_REQ_FD came ${when} SET_FEATURES`,
      );
    }
    if (could.length > 0) return seen("never", `${sessionList(could)}: SET_BACKEND_REQ_FD did not come`);
    if (this.#told.length === 0) return unseen("SET_FEATURES never came");
    return seen("never", `${sessionList(this.#told)}: BACKEND_REQ is not taken`);
  }

  order(): Finding<readonly OrderEntry[]> {
    const best = this.#best;
    if (best === undefined) return unseen("no start was seen");
    const order = startOrder(best);
    const because = `session ${best.record.number}: the messages of its start`;
    if (this.#isTranslated(best)) return seen(order, because);
    const { base } = this;
    const isSameStart =
      base !== undefined &&
      isSame(
        base.order.filter((entry) => entry !== "used-rings"),
        order,
      );
    const note = `${because}; UPDATEs for used rings could not come there`;
    return isSameStart ? fits([base.order, order], note) : fits([order], note);
  }

  /** Something that every start shows, from the one with the most to show. */
  ofStarts<T>(what: string, read: (facts: SessionFacts) => T): Finding<T> {
    const best = this.#best;
    if (best === undefined) return unseen("no start was seen");
    return seen(read(best), `session ${best.record.number}: ${what}`);
  }

  queues(): Finding<2 | 3> {
    const best = this.#best;
    if (best === undefined) return unseen("no start was seen");
    const { queues } = best;
    if (queues !== 2 && queues !== 3)
      return unseen(`session ${best.record.number}: ${queues} rings were started`);
    return seen(queues, `session ${best.record.number}: ${queues} rings were started`);
  }

  needReply(): Finding<readonly Step[]> {
    const could = this.#started.filter(({ protocolFeatures = 0n }) =>
      has(protocolFeatures, PROTOCOL_F.REPLY_ACK),
    );
    const best = could.find((facts) => facts === this.#best) ?? could[0];
    if (best === undefined) {
      if (this.#started.length === 0) return unseen("no start was seen");
      return seen([], `${sessionList(this.#started)}: REPLY_ACK is not taken`);
    }
    const steps = [...SETUP_STEPS, ...RING_STEPS].filter((step) => best.needReply.has(step));
    return this.#seenSet(
      steps,
      this.base?.needReply,
      `session ${best.record.number}: messages with NEED_REPLY`,
    );
  }

  /** A list whose order says nothing: written in the order of the base, if that has the same. */
  #seenSet<T>(found: readonly T[], ofBase: readonly T[] | undefined, because: string): Finding<readonly T[]> {
    return seen(ofBase !== undefined && isSameSet(ofBase, found) ? ofBase : found, because);
  }

  memory(): Finding<VmmProfile["memory"]> {
    const facts = this.#started.find(({ protocolFeatures = 0n }) =>
      has(protocolFeatures, PROTOCOL_F.CONFIGURE_MEM_SLOTS),
    );
    if (facts === undefined) return unseen("no start was seen in which CONFIGURE_MEM_SLOTS is taken");
    const memory = facts.addsSlots ? "slots" : "table";
    const message = facts.addsSlots ? "ADD_MEM_REG" : "SET_MEM_TABLE";
    return seen(memory, `session ${facts.record.number}: memory comes with ${message}`);
  }

  resetsDevice(): Finding<boolean> {
    const could = this.#told.filter(({ protocolFeatures = 0n }) =>
      has(protocolFeatures, PROTOCOL_F.RESET_DEVICE),
    );
    if (could.length === 0) {
      return this.#told.length === 0
        ? unseen("SET_FEATURES never came")
        : seen(false, `${sessionList(this.#told)}: RESET_DEVICE is not taken`);
    }
    const resets = could.some(({ resetsBeforeStart }) => resetsBeforeStart);
    return seen(
      resets,
      `${sessionList(could)}: RESET_DEVICE ${resets ? "came" : "did not come"} before SET_FEATURES`,
    );
  }

  configFlags(): Finding<0 | 1> {
    const facts = this.all.find(({ configFlags }) => configFlags === 0 || configFlags === 1);
    if (facts === undefined) return unseen("GET_CONFIG never came");
    const flags = facts.configFlags === 1 ? 1 : 0;
    return seen(flags, `session ${facts.record.number}: GET_CONFIG with flags ${flags}`);
  }

  serves(): Finding<boolean> {
    const behind = this.#on("viommu");
    const served = behind.filter(({ iotlb }) => iotlb.unasked + iotlb.answers > 0);
    if (served.length > 0) {
      const { iotlb, record } = served[0];
      return seen(
        true,
        `session ${record.number}: UPDATEs, ${iotlb.unasked} of them unasked; of ${iotlb.misses} MISSes it answered ${iotlb.answers}`,
      );
    }
    if (behind.length > 0) return seen(false, `${sessionList(behind)}: no UPDATE came`);
    return unseen(this.#hasPlayed("viommu") ? "nothing started behind the vIOMMU" : "no vIOMMU was there");
  }

  translates(): Finding<VmmProfile["iotlb"]["translates"]> {
    const plain = this.#on("plain");
    const alone = plain.filter((facts) => this.#isTranslated(facts));
    if (alone.length > 0) return seen("with-iommu-platform", `${sessionList(alone)}: without a vIOMMU`);
    const behind = this.#on("viommu").filter((facts) => this.#isTranslated(facts));
    if (behind.length === 0 || plain.length === 0) return unseen("nothing was translated");
    return seen("behind-viommu", `${sessionList(behind)}, and not ${sessionList(plain)}`);
  }

  /** The sessions in which the draft's protocol feature was taken. */
  #drafts(): readonly SessionFacts[] {
    return this.#offering("protocol-bits").filter(({ protocolFeatures = 0n }) =>
      has(protocolFeatures, DEFAULT_EXPLICIT_IOTLB_BIT),
    );
  }

  enables(): Finding<VmmProfile["iotlb"]["enables"]> {
    const drafts = this.#drafts();
    if (drafts.length > 0) return seen("explicit-protocol-feature", `${sessionList(drafts)}: it was taken`);
    if (this.#offering("protocol-bits").every(({ protocolFeatures }) => protocolFeatures === undefined))
      return unseen("SET_PROTOCOL_FEATURES never came");
    const because = "the draft's protocol feature was not taken; a bit that nobody knows is not offered";
    return fits(["nothing", "own-bit"], because, this.base?.iotlb.enables);
  }

  enablesBit(): Finding<number | undefined> {
    const drafts = this.#drafts();
    if (drafts.length === 0) return unseen("no such bit was taken");
    return seen(DEFAULT_EXPLICIT_IOTLB_BIT, `${sessionList(drafts)}: it was taken`);
  }

  invalidates(): Finding<VmmProfile["iotlb"]["invalidates"]> {
    const behind = this.#on("viommu").filter((facts) => this.#isTranslated(facts));
    const told = behind.find(({ iotlb }) => iotlb.invalidations > 0);
    const { base } = this;
    if (told !== undefined) {
      const because = `session ${told.record.number}: INVALIDATE came; whether its guest unmaps at once is not known`;
      return fits(["always", "strict-only"] as const, because, base?.iotlb.invalidates);
    }
    const silent = behind.filter(({ guestAnswered }) => guestAnswered);
    if (silent.length === 0) {
      const served = this.serves();
      if (served.kind === "choice" && served.values[0] === false) return seen("never", "it serves no IOTLB");
      return unseen("nothing was translated, or the guest did not use its rings");
    }
    const because = `${sessionList(silent)}: no INVALIDATE after the guest had its buffers back`;
    return fits(["never", "strict-only"] as const, because, base?.iotlb.invalidates);
  }

  unexpectedMiss(): Finding<VmmProfile["iotlb"]["unexpectedMiss"]> {
    const tried = this.#started.filter(({ unexpectedMiss }) => unexpectedMiss !== undefined);
    const [first] = tried;
    if (first?.unexpectedMiss === undefined) return unseen("there was no channel to ask on");
    if (first.unexpectedMiss === "answered")
      return unseen(`session ${first.record.number}: it answers with an UPDATE, vIOMMU or not`);
    return seen(first.unexpectedMiss, `session ${first.record.number}: a MISS without a vIOMMU`);
  }

  ringAddresses(): Finding<VmmProfile["ringAddresses"]> {
    for (const { ringAddresses, record } of this.#on("plain")) {
      const classes = new Set(ringAddresses);
      if (classes.size !== 1) continue;
      const because = `session ${record.number}: compared with the memory table`;
      if (classes.has("user")) return seen("user", because);
      if (classes.has("guest-physical")) return seen("guest-physical", because);
    }
    return unseen("no start without translation, or user and guest-physical ranges overlap");
  }

  refuses(): Finding<VmmProfile["refuses"]> {
    if (this.#started.length === 0) return unseen("no offer was taken");
    const found = refusalsOf(this.all);
    const viommu = this.#hasPlayed("viommu");
    const kept = (this.base?.refuses ?? []).filter(({ when }) => !isPlayed(when, { viommu }));
    const because =
      found.length === 0
        ? "every offer was taken"
        : `${numberList(found.map(({ session }) => session))}: it left, and its program said so`;
    const note = kept.length === 0 ? "" : "; those on conditions that no session sets up are the base's";
    const refusals = [...found.map(({ refusal }) => refusal), ...kept];
    return this.#seenSet(refusals, this.base?.refuses, because + note);
  }
}
