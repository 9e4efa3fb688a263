/**
 * What is offered to a front-end, session by session: each offer decides fields of a VmmProfile, and there is none that
 * decides nothing. Data only; scripted-session.ts plays it.
 */
import { IMPLEMENTED_PROTOCOL_FEATURES } from "../vhost/session-core.js";
import {
  DEFAULT_EXPLICIT_IOTLB_BIT,
  F,
  mask,
  maskOf,
  PROTOCOL_F,
  protocolFeatures,
  VSOCK_F,
  without,
} from "../virtio/index.js";

export type OfferId =
  | "everything"
  | "without-33"
  | "minimal"
  | "protocol-bits"
  | "no-reply-ack"
  | "no-backend-req"
  | "no-config"
  | "no-protocol-features"
  | "no-mq"
  | "no-memory-slots";

/** Which of the user's two machines is started: as it is, or with a vIOMMU in front of the device. */
export type Machine = "plain" | "viommu";

export interface Offer {
  readonly id: OfferId;
  /** What is offered, in a few words, for the progress line. */
  readonly title: string;
  /** Virtio features, bit 30 included or not. */
  readonly features: bigint;
  readonly protocolFeatures: bigint;
  /**
   * How far the session goes: until protocol features are acknowledged, or until the guest's driver runs and whatever
   * can be tried then was tried.
   */
  readonly until: "protocol-features" | "traffic";
  /** Played only if the front-end left at this other offer, which lacks the same and more. */
  readonly ifLeft?: OfferId;
}

/** An offer on a machine. */
export interface Play {
  readonly offer: Offer;
  readonly machine: Machine;
}

/**
 * Every named feature that a guest might take, but for those that hand it other devices' machinery: SR-IOV and admin
 * queues belong to the VMM's PCI layer, and a driver that believes in them may not get as far as its rings.
 */
const EVERY_FEATURE = maskOf(
  VSOCK_F.VSOCK_STREAM,
  VSOCK_F.VSOCK_SEQPACKET,
  F.NOTIFY_ON_EMPTY,
  F.LOG_ALL,
  F.ANY_LAYOUT,
  F.INDIRECT_DESC,
  F.EVENT_IDX,
  F.PROTOCOL_FEATURES,
  F.VERSION_1,
  F.ACCESS_PLATFORM,
  F.RING_PACKED,
  F.IN_ORDER,
  F.ORDER_PLATFORM,
  F.NOTIFICATION_DATA,
  F.RING_RESET,
);
/** Without packed rings as well: the scripted back-end serves split ones only, and traffic has to be seen somewhere. */
const WITHOUT_33 = EVERY_FEATURE & ~maskOf(F.ACCESS_PLATFORM, F.RING_PACKED);
const MINIMAL = maskOf(F.VERSION_1, F.PROTOCOL_FEATURES);

/** What the scripted back-end does; under GPA_ADDRESSES it could not tell which addresses a front-end chooses by itself. */
const SERVED_PROTOCOL = without(IMPLEMENTED_PROTOCOL_FEATURES, PROTOCOL_F.GPA_ADDRESSES);
/** Every protocol feature with a name, and the draft's. A session that offers them ends before any has to be kept. */
const EVERY_PROTOCOL = maskOf(...protocolFeatures(DEFAULT_EXPLICIT_IOTLB_BIT).map(({ bit }) => bit));

const OFFERS: readonly Offer[] = [
  {
    id: "everything",
    title: "everything",
    features: EVERY_FEATURE,
    protocolFeatures: SERVED_PROTOCOL,
    until: "traffic",
  },
  {
    id: "without-33",
    title: "everything but bits 33 and 34",
    features: WITHOUT_33,
    protocolFeatures: SERVED_PROTOCOL,
    until: "traffic",
  },
  {
    id: "minimal",
    title: "VERSION_1 and CONFIG, nothing else",
    features: MINIMAL,
    protocolFeatures: mask(PROTOCOL_F.CONFIG),
    until: "traffic",
  },
  {
    id: "protocol-bits",
    title: "every protocol feature",
    features: WITHOUT_33,
    protocolFeatures: EVERY_PROTOCOL,
    until: "protocol-features",
  },
  {
    id: "no-reply-ack",
    title: "bit 33 without REPLY_ACK",
    features: EVERY_FEATURE,
    protocolFeatures: SERVED_PROTOCOL & ~mask(PROTOCOL_F.REPLY_ACK),
    until: "traffic",
  },
  {
    id: "no-backend-req",
    title: "bit 33 without BACKEND_REQ",
    features: EVERY_FEATURE,
    protocolFeatures: SERVED_PROTOCOL & ~mask(PROTOCOL_F.BACKEND_REQ),
    until: "traffic",
  },
  {
    id: "no-config",
    title: "no CONFIG",
    features: WITHOUT_33,
    protocolFeatures: SERVED_PROTOCOL & ~mask(PROTOCOL_F.CONFIG),
    until: "traffic",
  },
  {
    id: "no-protocol-features",
    title: "no bit 30",
    features: WITHOUT_33 & ~mask(F.PROTOCOL_FEATURES),
    protocolFeatures: 0n,
    until: "traffic",
  },
  {
    id: "no-mq",
    title: "no MQ",
    features: WITHOUT_33,
    protocolFeatures: SERVED_PROTOCOL & ~mask(PROTOCOL_F.MQ),
    until: "traffic",
    ifLeft: "minimal",
  },
  {
    id: "no-memory-slots",
    title: "no CONFIGURE_MEM_SLOTS",
    features: WITHOUT_33,
    protocolFeatures: SERVED_PROTOCOL & ~mask(PROTOCOL_F.CONFIGURE_MEM_SLOTS),
    until: "traffic",
    ifLeft: "minimal",
  },
];

/** What a machine with a vIOMMU can tell beyond one without. */
const BEHIND_VIOMMU: readonly OfferId[] = ["everything", "without-33", "protocol-bits"];

/** The sessions of a run, in their order, as far as is known after those in which the front-end `left`. */
export function playsFor(
  machines: { readonly viommu: boolean },
  left: ReadonlySet<OfferId> = new Set(),
): Play[] {
  const due = OFFERS.filter(({ ifLeft }) => ifLeft === undefined || left.has(ifLeft));
  const plain = due.map((offer): Play => ({ offer, machine: "plain" }));
  if (!machines.viommu) return plain;
  const behind = due.filter(({ id }) => BEHIND_VIOMMU.includes(id));
  return [...plain, ...behind.map((offer): Play => ({ offer, machine: "viommu" }))];
}
