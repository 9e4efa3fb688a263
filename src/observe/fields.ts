/**
 * The fields of a VMM profile, and for each what an observation can know of it: data that the findings, the written
 * file, the table and the tests go by.
 */
import type { VmmProfile } from "../profiles/vmm-profile.js";

interface Field<T> {
  /** Its value in a profile. */
  of(profile: VmmProfile): T;
  /** What shows it; undefined if nothing that goes over the socket does. */
  readonly shownBy: string | undefined;
  /** What is written if nothing was seen and there is no profile to take it from. */
  readonly assumed: T;
}

function field<T>(of: (profile: VmmProfile) => T, assumed: T, shownBy?: string): Field<T> {
  return { of, assumed, shownBy };
}

export const FIELDS = {
  "machine.viommu": field((p) => p.machine.viommu, false, "that the second machine translates"),
  "machine.protectedMemory": field((p) => p.machine.protectedMemory, false),
  "offer.passed": field((p) => p.offer.passed, 0n, "bits that come back only where they are offered"),
  "offer.own": field((p) => p.offer.own, 0n, "bits that come back though they were not offered"),
  "offer.bit33": field((p) => p.offer.bit33, "never", "where bit 33 comes back"),
  "acknowledge.maskedByDevice": field(
    (p) => p.acknowledge.maskedByDevice,
    false,
    "that bits come back which were not offered",
  ),
  "acknowledge.adds": field(
    (p) => p.acknowledge.adds,
    0n,
    "bits that do not always come: those are not added",
  ),
  "acknowledge.masks": field((p) => p.acknowledge.masks, 0n, "bits that came: those are not masked"),
  "acknowledge.bit33": field((p) => p.acknowledge.bit33, "never", "where bit 33 comes back"),
  asksDevice: field((p) => p.asksDevice, "before-guest", "that GET_FEATURES comes before everything else"),
  protocolFeatures: field((p) => p.protocolFeatures, 0n, "the answer to an offer of every protocol feature"),
  backendFeatures: field((p) => p.backendFeatures, 0n),
  backendChannel: field((p) => p.backendChannel, "never", "when SET_BACKEND_REQ_FD comes"),
  order: field((p) => p.order, ["features", "memory"], "the order of the messages of a start"),
  queues: field((p) => p.queues, 3, "how many rings are set up"),
  earlyRings: field((p) => p.earlyRings, [], "ring messages before SET_FEATURES"),
  needReply: field((p) => p.needReply, [], "NEED_REPLY where REPLY_ACK was acknowledged"),
  memory: field((p) => p.memory, "slots", "how memory comes where CONFIGURE_MEM_SLOTS was acknowledged"),
  resetsDevice: field((p) => p.resetsDevice, false, "RESET_DEVICE before SET_FEATURES"),
  configFlags: field((p) => p.configFlags, 0, "the flags of GET_CONFIG"),
  "iotlb.serves": field((p) => p.iotlb.serves, false, "UPDATEs on the machine with a vIOMMU"),
  "iotlb.translates": field(
    (p) => p.iotlb.translates,
    "behind-viommu",
    "on which of the two machines ring addresses are I/O virtual",
  ),
  "iotlb.enables": field(
    (p) => p.iotlb.enables,
    "nothing",
    "the draft's protocol feature, where it is taken",
  ),
  "iotlb.enablesBit": field((p) => p.iotlb.enablesBit, undefined, "the same"),
  "iotlb.invalidates": field(
    (p) => p.iotlb.invalidates,
    "never",
    "INVALIDATEs after the guest has got its buffers back",
  ),
  "iotlb.unmappedUsedRing": field((p) => p.iotlb.unmappedUsedRing, "ignored"),
  "iotlb.unexpectedMiss": field(
    (p) => p.iotlb.unexpectedMiss,
    "ignored",
    "what follows a MISS on the machine without a vIOMMU",
  ),
  ringAddresses: field(
    (p) => p.ringAddresses,
    "user",
    "ring addresses, compared with the memory table, without a vIOMMU",
  ),
  refuses: field((p) => p.refuses, [], "which offers it leaves at"),
} as const satisfies Readonly<Record<string, Field<unknown>>>;

export type FieldName = keyof typeof FIELDS;
export type FieldValue<Name extends FieldName> = ReturnType<(typeof FIELDS)[Name]["of"]>;
export const FIELD_NAMES = Object.keys(FIELDS) as FieldName[];

/** The value in a profile that an observation starts from, if there is one. */
export function fieldOf<Name extends FieldName>(name: Name, profile: VmmProfile): FieldValue<Name> {
  return FIELDS[name].of(profile) as FieldValue<Name>;
}
