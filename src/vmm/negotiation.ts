/**
 * What a VMM makes of feature words: what it offers its guest, what it tells the device of the guest's answer, whether
 * it translates, what it refuses. Pure functions of a profile, the machine and the words, the same for both transports.
 * Each word comes with its reason in one clause, on bit 33. Must not know how a word travels, nor any VMM by name.
 */
import type { GuestProfile } from "../profiles/guest-profile.js";
import type { Condition, Refusal, VmmProfile } from "../profiles/vmm-profile.js";
import { F, has, mask, PROTOCOL_F, without } from "../virtio/index.js";

/** The machine that the user of the VMM configured. */
export type MachineOptions = GuestProfile["machine"];

/** A feature word, and why bit 33 is in it or not. */
export interface Decision {
  readonly features: bigint;
  readonly because: string;
}

/** What the device offers, as far as it was asked. */
export interface DeviceOffer {
  /** The virtio word; undefined as long as nobody has asked. */
  readonly features: bigint | undefined;
  /** The vhost-user protocol features. */
  readonly protocolFeatures: bigint;
}

const BIT_33 = mask(F.ACCESS_PLATFORM);

/**
 * Whether this VMM puts itself between the driver's addresses and memory. It goes by the machine, never by what the
 * guest acknowledged (QEMU: `vhost_dev_has_iommu`).
 */
export function translates({ iotlb }: VmmProfile, machine: MachineOptions): boolean {
  if (!iotlb.serves || !machine.iommuPlatform) return false;
  return iotlb.translates === "with-iommu-platform" || machine.viommu;
}

/** What the guest is offered. @param device undefined where the device is asked only after the guest */
export function offerToGuest(
  profile: VmmProfile,
  machine: MachineOptions,
  device: bigint | undefined,
): Decision {
  const { passed, own } = profile.offer;
  const { isIn, because } = offerOfBit33(profile, machine, has(device ?? 0n, F.ACCESS_PLATFORM));
  const others = ((device ?? 0n) & passed) | own;
  // No guest is to see bit 30: it is between the VMM and a vhost-user back-end.
  const word = without(without(others, F.PROTOCOL_FEATURES), F.ACCESS_PLATFORM);
  return { features: isIn ? word | BIT_33 : word, because };
}

interface BitDecision {
  readonly isIn: boolean;
  readonly because: string;
}

function offerOfBit33(
  { offer, program }: VmmProfile,
  machine: MachineOptions,
  isDevices: boolean,
): BitDecision {
  const yes = (because: string): BitDecision => ({ isIn: true, because });
  const no = (because: string): BitDecision => ({ isIn: false, because });
  switch (offer.bit33) {
    case "by-option":
      return machine.iommuPlatform
        ? yes(`${program} offers it because its user's option says so, whatever the device offers`)
        : no(`${program} offers it only by its user's option, which is off`);
    case "if-protected":
      return machine.protectedMemory
        ? yes(`${program} offers it because memory is protected; the guest needs it for the DMA API`)
        : no(`${program} offers it only where memory is protected`);
    case "if-protected-and-offered":
      if (!machine.protectedMemory) return no(`${program} offers it only where memory is protected`);
      return isDevices
        ? yes(`${program} offers it because memory is protected and the device offers it`)
        : no(`memory is protected, but ${program} offers only what the device offers, and it does not`);
    case "as-offered":
      return isDevices
        ? yes(`${program} hands on what the device offers`)
        : no(`${program} hands on what the device offers, and it does not`);
    case "always":
      return yes(`${program} offers it to every guest, whatever the device offers`);
    case "never":
      return no(`${program} never offers it`);
  }
}

/** What the device is told of what the guest acknowledged. */
export function tellDevice(
  profile: VmmProfile,
  machine: MachineOptions,
  device: bigint,
  acknowledged: bigint,
): Decision {
  const { maskedByDevice, adds, masks } = profile.acknowledge;
  const { isIn, because } = passingOfBit33(profile, machine, device, acknowledged);
  const others = without(maskedByDevice ? acknowledged & device : acknowledged, F.ACCESS_PLATFORM);
  const told = ((others | adds) & ~masks) | transportBits(profile, machine, device);
  const word = without(told, F.ACCESS_PLATFORM);
  return { features: isIn ? word | BIT_33 : word, because };
}

/** Bits that no guest acknowledges and the device is told: bit 30, and a bit of the IOTLB's own. */
function transportBits(profile: VmmProfile, machine: MachineOptions, device: bigint): bigint {
  const { enables, enablesBit } = profile.iotlb;
  const bit30 = profile.transport === "vhost-user" ? device & mask(F.PROTOCOL_FEATURES) : 0n;
  if (enables !== "own-bit" || enablesBit === undefined || !translates(profile, machine)) return bit30;
  return bit30 | (device & mask(enablesBit));
}

function passingOfBit33(
  profile: VmmProfile,
  machine: MachineOptions,
  device: bigint,
  acknowledged: bigint,
): BitDecision {
  const { program, acknowledge } = profile;
  if (has(acknowledge.masks, F.ACCESS_PLATFORM)) return masked(`${program} never tells the device of bit 33`);
  if (has(acknowledge.adds, F.ACCESS_PLATFORM)) {
    return { isIn: true, because: `added: ${program} tells the device of bit 33 whatever the guest said` };
  }
  if (!has(acknowledged, F.ACCESS_PLATFORM)) {
    const but = translates(profile, machine) ? `, though ${program} translates` : "";
    return { isIn: false, because: `not told: the guest did not acknowledge it${but}` };
  }
  return passingOfAcknowledged(profile, machine, has(device, F.ACCESS_PLATFORM));
}

function passingOfAcknowledged(
  profile: VmmProfile,
  machine: MachineOptions,
  isDevices: boolean,
): BitDecision {
  const { program, acknowledge } = profile;
  const unoffered = isDevices ? "" : ", although the device never offered it";
  const isTranslated = translates(profile, machine);
  const why = isTranslated ? `${program} translates` : `${program} takes virtio bits for vhost bits`;
  switch (acknowledge.bit33) {
    case "always":
      return passedOn(`${why}${unoffered}`);
    case "if-offered":
      return isDevices ? passedOn(why) : masked("the device does not offer it");
    case "behind-viommu":
      return machine.viommu && machine.iommuPlatform
        ? passedOn(`a vIOMMU stands in front of the device${unoffered}`)
        : masked("no vIOMMU stands in front of the device, so nothing is to be translated");
    case "never":
      return masked(`${program} never tells the device of bit 33`);
  }
}

const passedOn = (why: string): BitDecision => ({
  isIn: true,
  because: `passed on as acknowledged: ${why}`,
});

const masked = (why: string): BitDecision => ({ isIn: false, because: `masked: ${why}` });

/** The protocol features that a vhost-user front-end takes. */
export function takeProtocolFeatures(profile: VmmProfile, machine: MachineOptions, offered: bigint): bigint {
  const { enables, enablesBit } = profile.iotlb;
  const taken = offered & profile.protocolFeatures;
  if (enables !== "explicit-protocol-feature" || enablesBit === undefined) return taken;
  // docs/explicit-iotlb.md, Negotiation 3: it "MUST acknowledge the feature if it needs the device's accesses
  // translated or confined, and MUST NOT acknowledge it otherwise".
  const bit = mask(enablesBit);
  return translates(profile, machine) ? taken | (offered & bit) : taken & ~bit;
}

/** The first refusal whose conditions hold. @param acknowledged undefined before the guest has chosen */
export function refusalOf(
  profile: VmmProfile,
  machine: MachineOptions,
  device: DeviceOffer,
  acknowledged: bigint | undefined,
): Refusal | undefined {
  const at = acknowledged === undefined ? "initialization" : "start";
  return profile.refuses.find(
    (refusal) =>
      refusal.at === at &&
      refusal.when.every((condition) => holds(condition, profile, machine, device, acknowledged ?? 0n)),
  );
}

function holds(
  condition: Condition,
  { iotlb }: VmmProfile,
  machine: MachineOptions,
  { features = 0n, protocolFeatures }: DeviceOffer,
  acknowledged: bigint,
): boolean {
  switch (condition) {
    case "viommu":
      return machine.viommu;
    case "iommu-platform":
      return machine.iommuPlatform;
    case "protected-memory":
      return machine.protectedMemory;
    case "guest-acknowledged-33":
      return has(acknowledged, F.ACCESS_PLATFORM);
    case "device-offers-33":
      return has(features, F.ACCESS_PLATFORM);
    case "device-lacks-33":
      return !has(features, F.ACCESS_PLATFORM);
    case "device-lacks-config":
      return !has(protocolFeatures, PROTOCOL_F.CONFIG);
    case "device-lacks-mq":
      return !has(protocolFeatures, PROTOCOL_F.MQ);
    case "device-lacks-memory-slots":
      return !has(protocolFeatures, PROTOCOL_F.CONFIGURE_MEM_SLOTS);
    case "device-lacks-reply-ack":
      return !has(protocolFeatures, PROTOCOL_F.REPLY_ACK);
    case "device-lacks-backend-req":
      return !has(protocolFeatures, PROTOCOL_F.BACKEND_REQ);
    case "device-lacks-protocol-features":
      return !has(features, F.PROTOCOL_FEATURES);
    case "device-lacks-iotlb-bit":
      if (iotlb.enablesBit === undefined) return true;
      return !has(iotlb.enables === "own-bit" ? features : protocolFeatures, iotlb.enablesBit);
  }
}
