/**
 * The profiles that come with the program: the files in `profiles/`, one a profile, in the same form as a user's own.
 * Must not know what they say.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ConfigError } from "../config/errors.js";
import { quoted } from "../config/quoted.js";
import { nearWords } from "../config/suggest.js";
import type { DeviceProfile } from "./device-profile.js";
import type { GuestProfile } from "./guest-profile.js";
import { KIND_NAMES, type ProfileKind, type ProfileOfKind } from "./profile.js";
import { readProfileOf } from "./schema/index.js";
import type { VmmProfile } from "./vmm-profile.js";

/** In the order of tables and lists: history within a program, and programs as they turn up in the story of bit 33. */
export const BUILTIN_NAMES = {
  guest: [
    "plain",
    "viommu-strict",
    "viommu-lazy",
    "passthrough",
    "restricted-dma",
    "protected",
    "hostile-ack",
    "hostile-skip",
  ],
  vmm: [
    "qemu-4.2",
    "qemu-5.0",
    "qemu-7.2-kernel",
    "qemu-7.2",
    "qemu-10.0-kernel",
    "qemu-10.0",
    "crosvm-2022-07",
    "crosvm-2022-08",
    "crosvm-2023-09",
    "crosvm-vhost-user",
    "cloud-hypervisor",
    "openvmm",
    "alioth-kernel",
    "alioth-vhost-user",
    "libkrun",
    "bit33-draft",
    "fix-own-bit-vmm",
  ],
  device: [
    "linux-5.10",
    "linux-5.15",
    "linux-6.12",
    "fix-own-bit",
    "fix-first-message",
    "fix-msg-v2",
    "fix-mask-in-vmm",
    "crosvm-backend",
    "vhost-device-vsock",
    "dpdk-like",
    "bit33-off",
    "bit33-on",
    "bit33-auto",
    "bit33-explicit",
  ],
} as const satisfies Readonly<Record<ProfileKind, readonly string[]>>;

export interface BuiltinProfiles {
  readonly guests: readonly GuestProfile[];
  readonly vmms: readonly VmmProfile[];
  readonly devices: readonly DeviceProfile[];
}

/** All of them, each kind in its order. */
export function builtinProfiles(): BuiltinProfiles {
  return {
    guests: BUILTIN_NAMES.guest.map(builtinGuest),
    vmms: BUILTIN_NAMES.vmm.map(builtinVmm),
    devices: BUILTIN_NAMES.device.map(builtinDevice),
  };
}

/** Throws a ConfigError that names the near ones if there is none of that name; so do the others below. */
export function builtinGuest(name: string): GuestProfile {
  return builtin("guest", name);
}

export function builtinVmm(name: string): VmmProfile {
  return builtin("vmm", name);
}

export function builtinDevice(name: string): DeviceProfile {
  return builtin("device", name);
}

/** The file as it is, comments included. */
export function builtinText(kind: ProfileKind, name: string): string {
  assertBuiltin(kind, name);
  return readFileSync(fileOf(kind, name), "utf8");
}

const read = new Map<string, ProfileOfKind[ProfileKind]>();

export function builtin<Kind extends ProfileKind>(kind: Kind, name: string): ProfileOfKind[Kind] {
  const key = `${kind}/${name}`;
  // What is stored under a key of this kind is a profile of this kind.
  const known = read.get(key) as ProfileOfKind[Kind] | undefined;
  if (known !== undefined) return known;
  const profile = readProfileOf(kind, builtinText(kind, name), fileOf(kind, name));
  read.set(key, profile);
  return profile;
}

function assertBuiltin(kind: ProfileKind, name: string): void {
  const names: readonly string[] = BUILTIN_NAMES[kind];
  if (names.includes(name)) return;
  const near = nearWords(name, names);
  const hint = near.length === 0 ? "" : `did you mean ${near.join(" or ")}? `;
  const problem = `there is no ${KIND_NAMES[kind]} profile ${quoted(name)}; ${hint}\`bit33 compat --list\` names all of them`;
  throw new ConfigError("profile-unknown", "", problem);
}

function fileOf(kind: ProfileKind, name: string): string {
  // build/src/profiles/builtin.js -> profiles/, in the repository and in the installed package alike
  return fileURLToPath(new URL(`../../../profiles/${kind}/${name}.yaml`, import.meta.url));
}
