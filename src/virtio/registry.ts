/**
 * Looks feature bits up by number and by name, and prints feature words.
 *
 * The records are in the *-features.ts tables; this file knows only that there are three words (virtio's,
 * vhost-user's protocol features, the kernel's backend features) and that a device type owns the low bits.
 */
import { BACKEND_FEATURES } from "./backend-features.js";
import { bitsOf, hex } from "./bits.js";
import { DEVICE_FEATURE_NAMES, type NamedDeviceType } from "./device-feature-names.js";
import {
  DEFAULT_EXPLICIT_IOTLB_BIT,
  EXPLICIT_IOTLB_NAME,
  explicitIotlbRecord,
  PROTOCOL_FEATURES,
} from "./protocol-features.js";
import type { FeatureRecord, FeatureTable } from "./record.js";
import { TRANSPORT_FEATURES } from "./transport-features.js";
import { VSOCK_FEATURES } from "./vsock-features.js";

/** Device types whose own feature bits have names; those of vsock have records. */
export type DeviceType = "vsock" | NamedDeviceType;
export const DEVICE_TYPES: readonly DeviceType[] = [
  "vsock",
  ...(Object.keys(DEVICE_FEATURE_NAMES) as NamedDeviceType[]),
];

/** A record with the names under which it was found. */
export interface NamedFeature extends FeatureRecord {
  readonly name: string;
  /** The whole name of the constant: `VIRTIO_F_ACCESS_PLATFORM`. */
  readonly symbol: string;
}

type Index = ReadonlyMap<number, NamedFeature>;

function indexOf(prefix: string, ...tables: readonly FeatureTable[]): Index {
  const index = new Map<number, NamedFeature>();
  for (const table of tables) {
    for (const [name, record] of Object.entries(table)) {
      index.set(record.bit, { name, symbol: `${prefix}${name}`, ...record });
    }
  }
  return index;
}

const VIRTIO = indexOf("VIRTIO_F_", TRANSPORT_FEATURES);
const VIRTIO_VSOCK = indexOf("VIRTIO_F_", TRANSPORT_FEATURES, VSOCK_FEATURES);
const PROTOCOL = indexOf("VHOST_USER_PROTOCOL_F_", PROTOCOL_FEATURES);
const BACKEND = indexOf("VHOST_BACKEND_F_", BACKEND_FEATURES);

/** The record of a bit of the virtio word, device bits included if the type is known. */
export function virtioFeature(bit: number, deviceType?: DeviceType): NamedFeature | undefined {
  return (deviceType === "vsock" ? VIRTIO_VSOCK : VIRTIO).get(bit);
}

/** What a bit of the virtio word is called: `NET_MQ`, `bit22` if the device type is not known. */
export function featureName(bit: number, deviceType?: DeviceType): string {
  const known = virtioFeature(bit, deviceType)?.name;
  if (known !== undefined || deviceType === undefined || deviceType === "vsock") return known ?? `bit${bit}`;
  const names: Readonly<Record<number, string>> = DEVICE_FEATURE_NAMES[deviceType];
  return bit in names ? `${deviceType.toUpperCase()}_${names[bit]}` : `bit${bit}`;
}

/** The record of a vhost-user protocol feature; the experimental IOTLB sits at `explicitIotlbBit`. */
export function protocolFeature(
  bit: number,
  explicitIotlbBit: number = DEFAULT_EXPLICIT_IOTLB_BIT,
): NamedFeature | undefined {
  return bit === explicitIotlbBit ? explicitIotlbFeature(bit) : PROTOCOL.get(bit);
}

/** The record of a kernel vhost backend feature. */
export function backendFeature(bit: number): NamedFeature | undefined {
  return BACKEND.get(bit);
}

/** Every record of the virtio word, by bit. */
export function virtioFeatures(deviceType?: DeviceType): readonly NamedFeature[] {
  return [...(deviceType === "vsock" ? VIRTIO_VSOCK : VIRTIO).values()].sort((a, b) => a.bit - b.bit);
}

/** Every protocol feature record, by bit, the experimental one last. */
export function protocolFeatures(explicitIotlbBit?: number): readonly NamedFeature[] {
  return [...PROTOCOL.values(), explicitIotlbFeature(explicitIotlbBit)];
}

/** Every record of the kernel's backend features, by bit. */
export function backendFeatures(): readonly NamedFeature[] {
  return [...BACKEND.values()];
}

/** One line for a virtio feature word: `0x130000000 [INDIRECT_DESC EVENT_IDX VERSION_1]`. */
export function describeFeatures(word: bigint, deviceType?: DeviceType): string {
  return describeWord(word, (bit) => featureName(bit, deviceType));
}

/** One line for a word of vhost-user protocol features. */
export function describeProtocolFeatures(word: bigint, explicitIotlbBit?: number): string {
  return describeWord(word, (bit) => protocolFeature(bit, explicitIotlbBit)?.name ?? `bit${bit}`);
}

function explicitIotlbFeature(bit?: number): NamedFeature {
  return { name: EXPLICIT_IOTLB_NAME, ...explicitIotlbRecord(bit) };
}

function describeWord(word: bigint, nameOf: (bit: number) => string): string {
  return `${hex(word)} [${bitsOf(word).map(nameOf).join(" ")}]`;
}
