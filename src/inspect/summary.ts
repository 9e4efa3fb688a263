/**
 * What a session came to, as data: features by who has them, how addresses are translated and why that is said, memory,
 * rings, mappings, waiting times. Made from the model at any moment; what it looks like is the command's. Must not
 * judge: that is what the findings do.
 */

import type { MemRegion } from "../vhost/wire/index.js";
import { type DeviceType, F, featureName, has, PROTOCOL_F, protocolFeature } from "../virtio/index.js";
import type { WaitFigures } from "./figures.js";
import type { SessionEnd, SessionStart } from "./frame.js";
import { type ShownSpace, shownSpace } from "./line.js";
import type { RingModel } from "./model/ring-model.js";
import type { SessionModel } from "./model/session-model.js";
import type { RingTraffic } from "./rings/traffic.js";
import type { Finding, InspectedSession } from "./session.js";

/** `unseen`: no message shows it. */
export type Has = "yes" | "no" | "unseen";

export interface FeatureRow {
  readonly bit: number;
  readonly name: string;
  /** What the guest's driver acknowledged, as far as SET_FEATURES shows it; of protocol features it knows nothing. */
  readonly guest: Has;
  /** What the front-end acknowledged to the back-end. */
  readonly frontEnd: Has;
  /** What the back-end offered. */
  readonly backEnd: Has;
}

export type TranslationVerdict = "translated" | "not translated" | "guest-physical" | "undecided";

export interface RingSummary {
  readonly index: number;
  readonly size: number | undefined;
  readonly isRunning: boolean;
  readonly starts: number;
  readonly base: number | undefined;
  readonly stoppedAt: number | undefined;
  readonly addresses:
    | Readonly<Record<"desc" | "avail" | "used", { space: ShownSpace; address: bigint }>>
    | undefined;
  readonly kick: RingModel["kick"];
  readonly call: RingModel["call"];
  readonly inband: { readonly kicks: number; readonly calls: number; readonly errors: number };
  /** What it carried, if it was followed. */
  readonly traffic: RingTraffic | undefined;
}

export interface SessionSummary {
  readonly start: SessionStart;
  readonly end: SessionEnd | undefined;
  readonly messages: {
    readonly toBackend: number;
    readonly toFrontend: number;
    readonly onChannel: number;
    readonly descriptors: number;
  };
  readonly features: readonly FeatureRow[];
  readonly protocolFeatures: readonly FeatureRow[];
  readonly translation: { readonly verdict: TranslationVerdict; readonly evidence: readonly string[] };
  readonly regions: readonly MemRegion[];
  /** System calls whose arguments were not shown, so that what they set is missing here. */
  readonly unseen: readonly string[];
  readonly rings: readonly RingSummary[];
  readonly iotlb: {
    readonly updates: number;
    readonly invalidations: number;
    readonly misses: number;
    readonly answered: number;
    readonly meanNs: bigint;
    readonly slowestNs: bigint;
  };
  readonly waits: readonly WaitFigures[];
  readonly findings: readonly Finding[];
}

export function summaryOf(session: InspectedSession, deviceType?: DeviceType): SessionSummary {
  const { model, figures, start, end, findings, traffic } = session;
  const { iotlb } = model;
  const { toBackend, toFrontend, onChannel, descriptors } = figures;
  return {
    start,
    end,
    messages: { toBackend, toFrontend, onChannel, descriptors },
    features: featureRows(model, deviceType ?? model.deviceType),
    protocolFeatures: protocolRows(model),
    translation: { verdict: verdictOf(model), evidence: evidenceOf(model) },
    regions: model.regions,
    unseen: [...model.unseen],
    rings: [...model.rings.values()]
      .sort((a, b) => a.index - b.index)
      .map((ring) => ringSummary(ring, model, traffic?.get(ring.index))),
    iotlb: {
      updates: iotlb.updates,
      invalidations: iotlb.invalidations,
      misses: iotlb.misses,
      answered: iotlb.answered,
      meanNs: iotlb.answered === 0 ? 0n : iotlb.answeredNs / BigInt(iotlb.answered),
      slowestNs: iotlb.slowestNs,
    },
    waits: figures.waits,
    findings,
  };
}

function hasBit(word: bigint | undefined, bit: number): Has {
  if (word === undefined) return "unseen";
  return has(word, bit) ? "yes" : "no";
}

/** Bits of SET_FEATURES that a front-end sets by itself (vhost-user, Feature bits). */
const OF_THE_FRONT_END: readonly number[] = [F.LOG_ALL, F.PROTOCOL_FEATURES];

function featureRows(model: SessionModel, deviceType: DeviceType | undefined): FeatureRow[] {
  const { offered, acknowledged } = model;
  const bits = bitsIn((offered ?? 0n) | (acknowledged ?? 0n));
  return bits.map((bit) => ({
    bit,
    name: featureName(bit, deviceType),
    guest: guestHas(acknowledged, bit),
    frontEnd: hasBit(acknowledged, bit),
    backEnd: hasBit(offered, bit),
  }));
}

/** A front-end hands on what its guest acknowledged; what it withholds from the back-end, 33 above all, is not seen. */
function guestHas(acknowledged: bigint | undefined, bit: number): Has {
  if (OF_THE_FRONT_END.includes(bit)) return "no";
  return acknowledged !== undefined && has(acknowledged, bit) ? "yes" : "unseen";
}

function protocolRows({ protocolOffered, protocolAcknowledged }: SessionModel): FeatureRow[] {
  return bitsIn((protocolOffered ?? 0n) | (protocolAcknowledged ?? 0n)).map((bit) => ({
    bit,
    name: protocolFeature(bit)?.name ?? `bit${bit}`,
    guest: "unseen",
    frontEnd: hasBit(protocolAcknowledged, bit),
    backEnd: hasBit(protocolOffered, bit),
  }));
}

function bitsIn(word: bigint): number[] {
  return Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => has(word, bit));
}

function ringSummary(ring: RingModel, model: SessionModel, traffic: RingTraffic | undefined): RingSummary {
  const { index, size, starts, base, stoppedAt, kick, call, addresses } = ring;
  const located = (address: bigint): { space: ShownSpace; address: bigint } => ({
    space: shownSpace(address, model),
    address,
  });
  return {
    index,
    size,
    isRunning: model.isRunning(ring),
    starts,
    base,
    stoppedAt,
    addresses: addresses && {
      desc: located(addresses.desc),
      avail: located(addresses.avail),
      used: located(addresses.used),
    },
    kick,
    call,
    inband: { kicks: ring.inbandKicks, calls: ring.inbandCalls, errors: ring.inbandErrors },
    traffic,
  };
}

function verdictOf(model: SessionModel): TranslationVerdict {
  const { iotlb } = model;
  const given = ringAddresses(model);
  if (model.isAcknowledged(F.ACCESS_PLATFORM)) {
    if (iotlb.updates > 0 || given.some((address) => model.classOf(address) !== "user")) return "translated";
    return given.length === 0 ? "undecided" : "not translated";
  }
  // The kernel takes an UPDATE only if bit 33 was acknowledged (vhost.c vhost_process_iotlb_msg).
  if (model.hasUnseenFeatures)
    return iotlb.updates > 0 || model.unseen.has("IOTLB_MSG") ? "translated" : "undecided";
  if (given.length === 0) return "undecided";
  return model.hasProtocol(PROTOCOL_F.GPA_ADDRESSES) ? "guest-physical" : "not translated";
}

function ringAddresses(model: SessionModel): bigint[] {
  return [...model.rings.values()].flatMap(({ addresses }) =>
    addresses === undefined ? [] : [addresses.desc, addresses.avail, addresses.used],
  );
}

function evidenceOf(model: SessionModel): string[] {
  const { iotlb } = model;
  const evidence: string[] = [];
  if (model.hasUnseenFeatures) evidence.push(UNSEEN_FEATURES);
  else if (model.acknowledged === undefined) evidence.push("SET_FEATURES did not come");
  else {
    const isOffered = hasBit(model.offered, F.ACCESS_PLATFORM);
    const offered = { yes: "offered", no: "not offered", unseen: "maybe offered" }[isOffered];
    const acknowledged = model.isAcknowledged(F.ACCESS_PLATFORM) ? "acknowledged" : "not acknowledged";
    evidence.push(
      `bit 33 (ACCESS_PLATFORM) is ${offered} by the back-end and ${acknowledged} by the front-end`,
    );
  }
  if (model.hasProtocol(PROTOCOL_F.GPA_ADDRESSES)) evidence.push("GPA_ADDRESSES is acknowledged");
  const spaces = [...new Set(ringAddresses(model).map((address) => model.classOf(address)))];
  if (spaces.length > 0)
    evidence.push(`ring addresses lie in ranges of the memory table: ${spaces.map(placeOf).join(", ")}`);
  evidence.push(
    `${iotlb.updates} UPDATE, ${iotlb.invalidations} INVALIDATE, ${iotlb.misses} MISS${channelOf(model)}`,
  );
  return evidence;
}

const UNSEEN_FEATURES =
  "SET_FEATURES came, and its word was not shown; the kernel takes an UPDATE only if bit 33 (ACCESS_PLATFORM) is in it";

/** The kernel's device is its own channel. */
function channelOf({ transport, channel, unseen }: SessionModel): string {
  if (transport === "kernel-vhost")
    return unseen.has("IOTLB_MSG") ? ", and messages that were not shown as a whole" : "";
  return `; the back-end channel is ${channel === "given" ? "there" : "not there"}`;
}

function placeOf(found: ReturnType<SessionModel["classOf"]>): string {
  return found === "iova" ? "none (I/O virtual)" : found;
}
