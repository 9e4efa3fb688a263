/**
 * What a transcript says, as facts: one session at a time, nothing compared, nothing inferred. Must not know profiles
 * beyond the names of their steps.
 */

import { type AddressClass, classOf } from "../inspect/address-class.js";
import type { RingStep, Step } from "../profiles/vmm-profile.js";
import {
  type FrontendMessageName,
  IOTLB_TYPE,
  type IotlbMessage,
  type MemRegion,
  type Message,
} from "../vhost/wire/index.js";
import { isRingStep, orderOf, type SeenStep, stepOf } from "./start-order.js";
import type { Entry, Mark, SessionRecord } from "./transcript.js";

export interface IotlbFacts {
  /** UPDATEs that came before anything was asked. */
  readonly unasked: number;
  readonly misses: number;
  /** UPDATEs for an address that was asked for. */
  readonly answers: number;
  readonly invalidations: number;
}

/** What became of a MISS that a front-end without translation cannot expect. */
export type UnexpectedMissFate = "ignored" | "refused" | "dies" | "answered";

export interface SessionFacts {
  readonly record: SessionRecord;
  /** SET_FEATURES, the first. */
  readonly features: bigint | undefined;
  /** SET_PROTOCOL_FEATURES. */
  readonly protocolFeatures: bigint | undefined;
  /** GET_FEATURES came before the configuration was read or a ring named. */
  readonly askedFirst: boolean;
  /** SET_BACKEND_REQ_FD: before SET_FEATURES, after it, or not at all. */
  readonly channel: "at-initialization" | "in-order" | "never";
  readonly configFlags: number | undefined;
  readonly addsSlots: boolean;
  readonly resetsBeforeStart: boolean;
  /** Ring steps before that. */
  readonly earlyRings: readonly RingStep[];
  /** From SET_FEATURES, or steps straight before it, until the start was over. */
  readonly start: readonly SeenStep[];
  /** Steps whose messages asked for an acknowledgement. */
  readonly needReply: ReadonlySet<Step>;
  /** Queues that were started. */
  readonly queues: number;
  /** Of the first start's rings. */
  readonly ringAddresses: readonly AddressClass[];
  readonly iotlb: IotlbFacts;
  readonly guestAnswered: boolean;
  readonly unexpectedMiss: UnexpectedMissFate | undefined;
}

export function factsOf(record: SessionRecord): SessionFacts {
  const { entries } = record.transcript;
  const heard = entries.filter(({ from, on }) => from === "front-end" && on === "socket");
  const named = (name: FrontendMessageName): Message | undefined =>
    heard.find(({ message }) => message.record.name === name)?.message;
  const featuresAt = positionOf(heard, "SET_FEATURES");
  const startAt = startPosition(heard, featuresAt);
  const before = heard.slice(0, featuresAt);
  const config = named("GET_CONFIG")?.payload;
  const early = heard.slice(0, startAt);
  const start = [...memoryOf(early), ...startOf(record, heard.slice(startAt))];
  return {
    record,
    features: wordOf(named("SET_FEATURES")),
    protocolFeatures: wordOf(named("SET_PROTOCOL_FEATURES")),
    askedFirst: positionOf(heard, "GET_FEATURES") < Math.min(positionOf(heard, "GET_CONFIG"), featuresAt),
    channel: channelOf(before, heard),
    configFlags: config?.kind === "config" ? config.flags : undefined,
    addsSlots: named("ADD_MEM_REG") !== undefined,
    resetsBeforeStart: before.some(({ message }) => message.record.name === "RESET_DEVICE"),
    earlyRings: earlyRingsOf(early),
    start,
    needReply: acknowledgedSteps(heard),
    queues: new Set(start.filter(({ step }) => step === "kick").map(({ queue }) => queue)).size,
    ringAddresses: ringClasses(heard),
    iotlb: iotlbFacts(record),
    guestAnswered: record.transcript.marks.some(({ mark }) => mark === "guest-answered"),
    unexpectedMiss: unexpectedMissFate(record),
  };
}

/** The rings were enabled, and the start went through. */
export function hasStarted(facts: SessionFacts): boolean {
  return facts.record.outcome === "started";
}

function positionOf(heard: readonly Entry[], name: FrontendMessageName): number {
  const at = heard.findIndex(({ message }) => message.record.name === name);
  return at < 0 ? heard.length : at;
}

function wordOf(message: Message | undefined): bigint | undefined {
  return message?.payload.kind === "u64" ? message.payload.value : undefined;
}

function channelOf(before: readonly Entry[], heard: readonly Entry[]): SessionFacts["channel"] {
  const isIt = ({ message }: Entry): boolean => message.record.name === "SET_BACKEND_REQ_FD";
  if (before.some(isIt)) return "at-initialization";
  return heard.some(isIt) ? "in-order" : "never";
}

/** In the order in which they were done for the first queue; each once, however often the guest's firmware came by. */
function earlyRingsOf(before: readonly Entry[]): RingStep[] {
  const steps = before.map(({ message }) => stepOf(message));
  const rings = steps.filter((seen) => seen !== undefined && isRingStep(seen.step));
  return [...new Set(rings.map((seen) => (seen as SeenStep).step as RingStep))];
}

/**
 * Where the start begins: with SET_FEATURES, or with steps straight before it, if they come after the configuration was
 * read: whoever reads that has made the device's acquaintance.
 */
function startPosition(heard: readonly Entry[], featuresAt: number): number {
  let at = featuresAt;
  while (at > 0 && stepOf(heard[at - 1].message) !== undefined) at--;
  const isLater = heard.slice(0, at).some(({ message }) => message.record.name === "GET_CONFIG");
  return isLater ? at : featuresAt;
}

/** Memory that is shared before everything else belongs to the start all the same: it has no other place. */
function memoryOf(early: readonly Entry[]): SeenStep[] {
  const seen = early.map(({ message }) => stepOf(message)).find((each) => each?.step === "memory");
  return seen === undefined ? [] : [seen];
}

/** Every step of `heard` until nothing more came, or until the device was stopped again. */
function startOf({ transcript }: SessionRecord, heard: readonly Entry[]): readonly SeenStep[] {
  const end = markAt(transcript.marks, "serving") ?? transcript.entries.length;
  const served = new Set(transcript.entries.slice(0, end));
  const steps: SeenStep[] = [];
  for (const entry of heard) {
    if (!served.has(entry) || endsStart(entry.message)) break;
    const step = isUpdate(entry)
      ? ({ step: "used-rings", queue: undefined } as const)
      : stepOf(entry.message);
    if (step !== undefined) steps.push(step);
  }
  return steps;
}

function endsStart({ record, payload }: Message): boolean {
  return (
    record.name === "GET_VRING_BASE" ||
    (record.name === "SET_VRING_ENABLE" && payload.kind === "vringState" && payload.num === 0)
  );
}

function markAt(marks: SessionRecord["transcript"]["marks"], mark: Mark): number | undefined {
  return marks.find((each) => each.mark === mark)?.after;
}

function acknowledgedSteps(heard: readonly Entry[]): Set<Step> {
  const asking = heard.filter(({ message }) => message.needReply);
  return new Set(asking.flatMap(({ message }) => stepOf(message)?.step ?? []));
}

function ringClasses(heard: readonly Entry[]): AddressClass[] {
  const regions: MemRegion[] = [];
  const addresses = new Map<number, bigint>();
  for (const { message } of heard) {
    const { payload } = message;
    if (payload.kind === "memTable") regions.push(...payload.regions);
    if (payload.kind === "memRegion" && message.record.name === "ADD_MEM_REG") regions.push(payload.region);
    if (payload.kind === "vringAddr" && !addresses.has(payload.index))
      addresses.set(payload.index, payload.desc);
  }
  // Judged by everything that was shared in the session: a front-end may send its memory last.
  return [...addresses.values()].map((address) => classOf(address, regions));
}

function iotlbOf({ message }: Entry): IotlbMessage | undefined {
  return message.payload.kind === "iotlb" ? message.payload : undefined;
}

function isUpdate(entry: Entry): boolean {
  return iotlbOf(entry)?.type === IOTLB_TYPE.UPDATE;
}

function iotlbFacts({ transcript }: SessionRecord): IotlbFacts {
  const unexpectedAt = markAt(transcript.marks, "sent-unexpected-miss") ?? transcript.entries.length;
  const asked: bigint[] = [];
  let [unasked, answers, invalidations] = [0, 0, 0];
  for (const entry of transcript.entries.slice(0, unexpectedAt)) {
    const message = iotlbOf(entry);
    if (message === undefined) continue;
    const { type, iova, size } = message;
    if (type === IOTLB_TYPE.MISS) asked.push(iova);
    if (type === IOTLB_TYPE.INVALIDATE) invalidations++;
    if (type !== IOTLB_TYPE.UPDATE) continue;
    if (asked.length === 0) unasked++;
    if (asked.some((wanted) => wanted >= iova && wanted < iova + size)) answers++;
  }
  return { unasked, misses: asked.length, answers, invalidations };
}

function unexpectedMissFate({ transcript, diedServing }: SessionRecord): UnexpectedMissFate | undefined {
  const at = markAt(transcript.marks, "sent-unexpected-miss");
  if (at === undefined) return undefined;
  const after = transcript.entries.slice(at);
  if (after.some(isUpdate)) return "answered";
  if (diedServing) return "dies";
  const reply = after.find(({ on, message }) => on === "channel" && message.reply)?.message;
  return wordOf(reply) === undefined || wordOf(reply) === 0n ? "ignored" : "refused";
}

/** The messages of a start as a profile writes them. */
export function startOrder(facts: SessionFacts) {
  return orderOf(facts.start);
}
