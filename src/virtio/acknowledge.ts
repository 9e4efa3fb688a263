/**
 * What to do with a virtio feature bit that is acknowledged although nobody offered it.
 *
 * A driver "MUST NOT accept a feature which the device did not offer" (VIRTIO, Feature Bits), but front-ends
 * hand on what their guest acknowledged of *their* offer: QEMU does so with 33 and 34 for vhost-user-vsock.
 * The rule per bit is data with its reason. The measure: a bit that changes what rings, addresses or memory
 * mean is refused, since going on would be a guess with the guest's memory; a bit that is a hint, or is
 * served entirely by the front-end, is ignored; a bit that holds of us anyway is accepted.
 */
import { bitsOf, has, maskOf } from "./bits.js";
import { type DeviceType, featureName } from "./registry.js";
import { F } from "./transport-features.js";
import { VSOCK_F } from "./vsock-features.js";

/**
 * - `accept`: the bit is in effect, offered or not.
 * - `ignore`: the session goes on as if the bit had not been acknowledged.
 * - `refuse`: the session fails, cleanly and with the reason.
 */
export type UnofferedDecision = "accept" | "ignore" | "refuse";

/** The rule for one bit that arrives though it was not offered. */
export interface UnofferedRule {
  readonly bit: number;
  readonly decision: UnofferedDecision;
  /** Why, as a clause that completes "… because". */
  readonly reason: string;
}

/** What was decided of one acknowledged bit that nobody offered. */
export interface UnofferedVerdict extends UnofferedRule {
  /** The bit's current name, or `bit` and its number. */
  readonly name: string;
}

/** The outcome of SET_FEATURES. */
export interface AcknowledgeJudgement {
  /** The features in effect: what was offered and acknowledged, and what is accepted without an offer. */
  readonly accepted: bigint;
  /** The bits on which the session must fail; 0n if it can go on. */
  readonly refused: bigint;
  /** One verdict for each bit that was acknowledged without an offer, lowest bit first. */
  readonly verdicts: readonly UnofferedVerdict[];
}

const refuse = (bit: number, reason: string): UnofferedRule => ({ bit, decision: "refuse", reason });
const ignore = (bit: number, reason: string): UnofferedRule => ({ bit, decision: "ignore", reason });
const accept = (bit: number, reason: string): UnofferedRule => ({ bit, decision: "accept", reason });

const TRANSPORT_RULES: readonly UnofferedRule[] = [
  ignore(
    F.NOTIFY_ON_EMPTY,
    "it only asks for more notifications, and no driver of a modern device waits for them",
  ),
  refuse(
    F.LOG_ALL,
    "whoever sets it believes that written pages are logged, and a migration would lose them",
  ),
  accept(F.ANY_LAYOUT, "any split of header and data over descriptors is understood anyway"),
  refuse(F.INDIRECT_DESC, "descriptors may point at tables that would be taken for data"),
  refuse(
    F.EVENT_IDX,
    "notifications would be steered by ring fields that are not read, and the queues would stall",
  ),
  accept(F.PROTOCOL_FEATURES, "it only says that rings wait for SET_VRING_ENABLE, which they can always do"),
  refuse(F.VERSION_1, "a device that does not offer it is a legacy device, with other layouts"),
  accept(
    F.ACCESS_PLATFORM,
    "it only says that the guest uses the DMA API; QEMU passes it on whatever the back-end offered, and " +
      "whether addresses are translated is decided apart from it",
  ),
  refuse(
    F.RING_PACKED,
    "the rings have a layout that was not offered: reading them as split rings corrupts memory",
  ),
  refuse(
    F.IN_ORDER,
    "the driver may skip used entries that it takes for granted, and would reuse live buffers",
  ),
  accept(
    F.ORDER_PLATFORM,
    "driver and device are CPUs of one host, ordered by the barriers that are used anyway",
  ),
  ignore(F.SR_IOV, "it concerns the PCI function, which the front-end owns"),
  ignore(F.NOTIFICATION_DATA, "the front-end consumes the data; a kick arrives as before"),
  ignore(F.NOTIF_CONFIG_DATA, "the front-end consumes the data; a kick arrives as before"),
  refuse(
    F.RING_RESET,
    "the driver takes the memory of a queue back once it has reset it, and the reset would not be noticed",
  ),
  ignore(F.ADMIN_VQ, "administration queues belong to the PCI function, which the front-end owns"),
  ignore(F.SUSPEND_CROSVM, "the front-end suspends a device by stopping its rings"),
  ignore(F.SUSPEND, "the front-end suspends a device by stopping its rings"),
];

const VSOCK_RULES: readonly UnofferedRule[] = [
  accept(VSOCK_F.VSOCK_STREAM, "stream sockets are served whether or not the bit is acknowledged"),
  ignore(
    VSOCK_F.VSOCK_SEQPACKET,
    "a packet of a type that is not served is answered with RST, as for any type",
  ),
  ignore(VSOCK_F.VSOCK_NO_IMPLIED_STREAM, "serving stream sockets that nobody opens harms nobody"),
  ignore(VSOCK_F.VSOCK_DGRAM, "a packet of a type that is not served is answered with RST, as for any type"),
];

/** The rules that are written down, by bit, for `describe` pages and tests. */
export const UNOFFERED_RULES: readonly UnofferedRule[] = [...VSOCK_RULES, ...TRANSPORT_RULES];

/** The rule for a bit that is acknowledged without an offer. */
export function unofferedRule(bit: number): UnofferedRule {
  const known = UNOFFERED_RULES.find((rule) => rule.bit === bit);
  return known ?? refuse(bit, "the bit is unknown, so it may change what rings or addresses look like");
}

/**
 * Judges the word of a SET_FEATURES against the word that GET_FEATURES answered.
 *
 * Never throws; a bit outside 0 to 63 cannot occur in a decoded word.
 */
export function judgeAcknowledged(
  offered: bigint,
  acknowledged: bigint,
  deviceType: DeviceType = "vsock",
): AcknowledgeJudgement {
  const verdicts = bitsOf(acknowledged)
    .filter((bit) => !has(offered, bit))
    .map((bit) => ({ name: featureName(bit, deviceType), ...unofferedRule(bit) }));
  const bitsDecided = (decision: UnofferedDecision): bigint =>
    maskOf(...verdicts.filter((verdict) => verdict.decision === decision).map((verdict) => verdict.bit));
  return {
    accepted: (acknowledged & offered) | bitsDecided("accept"),
    refused: bitsDecided("refuse"),
    verdicts,
  };
}

/** One line for a verdict: `RING_PACKED (34) was acknowledged but not offered: refused, because …`. */
export function describeVerdict(verdict: UnofferedVerdict): string {
  const past = { accept: "accepted", ignore: "ignored", refuse: "refused" }[verdict.decision];
  return `${verdict.name} (${verdict.bit}) was acknowledged but not offered: ${past}, because ${verdict.reason}`;
}
