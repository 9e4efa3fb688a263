/**
 * The three feature words as dictionaries: which bits one has, who carries it, and what can be said of a bit
 * that nobody has named. Must not know how anything is printed, nor any bit by name: src/virtio does.
 */

import {
  backendFeature,
  backendFeatures,
  type DeviceType,
  type NamedFeature,
  protocolFeature,
  protocolFeatures,
  virtioFeature,
  virtioFeatures,
} from "../../virtio/index.js";

export type WordKind = "virtio" | "protocol" | "backend";

export interface Dictionary {
  readonly kind: WordKind;
  /** What a word of this kind is called. */
  readonly title: string;
  /** The calls and messages that carry such a word. */
  readonly carriedBy: string;
  readonly deviceType?: DeviceType;
  /** Every record, by bit. */
  readonly all: readonly NamedFeature[];
  /** The records that a name is looked up in: a name alone may imply the device type. */
  readonly named: readonly NamedFeature[];
  find(bit: number): NamedFeature | undefined;
  /** What can be said of a bit that has no record. */
  unknown(bit: number): string;
}

/** Those whose own bits have records. */
export const DEVICE_TYPES: readonly DeviceType[] = ["vsock"];

export function virtioDictionary(deviceType?: DeviceType): Dictionary {
  return {
    kind: "virtio",
    title: deviceType === undefined ? "virtio feature word" : `virtio feature word of a ${deviceType} device`,
    carriedBy: "device_features, VHOST_GET_FEATURES, VHOST_USER_GET_FEATURES and their SET_ halves",
    ...(deviceType === undefined ? {} : { deviceType }),
    all: virtioFeatures(deviceType),
    named: virtioFeatures("vsock"),
    find: (bit) => virtioFeature(bit, deviceType),
    unknown: (bit) => unknownVirtioBit(bit, deviceType),
  };
}

export function protocolDictionary(explicitIotlbBit?: number): Dictionary {
  const all = protocolFeatures(explicitIotlbBit);
  return {
    kind: "protocol",
    title: "word of vhost-user protocol features",
    carriedBy: "VHOST_USER_GET_PROTOCOL_FEATURES and SET_; no guest ever sees it",
    all,
    named: all,
    find: (bit) => protocolFeature(bit, explicitIotlbBit),
    unknown: () => "not assigned by the vhost-user document, nor used by a program that bit33 knows",
  };
}

export const BACKEND_DICTIONARY: Dictionary = {
  kind: "backend",
  title: "word of vhost backend features",
  carriedBy: "VHOST_GET_BACKEND_FEATURES and SET_ of a kernel device; no guest ever sees it",
  all: backendFeatures(),
  named: backendFeatures(),
  find: backendFeature,
  unknown: () => "not assigned by linux include/uapi/linux/vhost_types.h as far as bit33 knows",
};

/** VIRTIO 1.4, Feature Bits: 0 to 23 and 50 to 127 are for the device type, 44 to 49 for the future. */
function unknownVirtioBit(bit: number, deviceType: DeviceType | undefined): string {
  if (bit > 23 && bit < 50) return "reserved: assigned by no document or program that bit33 knows";
  if (deviceType !== undefined)
    return `belongs to the device type, and none of its number is known for ${deviceType}`;
  const owners = DEVICE_TYPES.flatMap((type) => {
    const name = virtioFeature(bit, type)?.name;
    return name === undefined ? [] : [`${name} for ${type} (--type ${type})`];
  });
  return ["belongs to the device type", ...owners].join("; ");
}
