/** The three kinds of profile, as one type. */
import type { DeviceProfile } from "./device-profile.js";
import type { GuestProfile } from "./guest-profile.js";
import type { VmmProfile } from "./vmm-profile.js";

export interface ProfileOfKind {
  readonly guest: GuestProfile;
  readonly vmm: VmmProfile;
  readonly device: DeviceProfile;
}

export const PROFILE_KINDS = ["guest", "vmm", "device"] as const satisfies readonly (keyof ProfileOfKind)[];
export type ProfileKind = (typeof PROFILE_KINDS)[number];
export type Profile = ProfileOfKind[ProfileKind];

/** As a sentence has them. */
export const KIND_NAMES = { guest: "guest", vmm: "VMM", device: "device" } as const;
