/** Profiles as files: read, written and described by one schema. */
import { Document, isMap, isScalar } from "yaml";
import { YamlFile } from "../../config/yaml-file.js";
import { KIND_NAMES, PROFILE_KINDS, type Profile, type ProfileKind, type ProfileOfKind } from "../profile.js";
import { variantsOf } from "./collections.js";
import { DEVICE_RULES, DEVICE_SCHEMA } from "./device-schema.js";
import { GUEST_RULES, GUEST_SCHEMA } from "./guest-schema.js";
import { HEAD } from "./head-schema.js";
import { type Description, Source } from "./shape.js";
import { VMM_RULES } from "./vmm-rules.js";
import { VMM_SCHEMA } from "./vmm-schema.js";

export type { Description, FormDescription, KeyDescription } from "./shape.js";

const KIND_KEY = "profile";
const LINE_WIDTH = 100;

const PROFILE = variantsOf<Profile, "kind">(
  "kind",
  {
    guest: { help: "A guest: how its DMA works, and what it insists on.", shape: GUEST_SCHEMA },
    vmm: { help: "A VMM's side of vhost.", shape: VMM_SCHEMA },
    device: { help: "A vsock device at its vhost interface.", shape: DEVICE_SCHEMA },
  },
  KIND_KEY,
);

/** What a profile may say, for documentation. */
export const PROFILE_DESCRIPTION: Description = PROFILE.description;

/** What has to hold between the values of a profile, a sentence each. */
export const PROFILE_RULES = {
  guest: GUEST_RULES.map(({ text }) => text),
  vmm: VMM_RULES.map(({ text }) => text),
  device: DEVICE_RULES.map(({ text }) => text),
} as const;

/**
 * Reads one profile. Throws a ConfigError at the first mistake, with `fileName:line:column`.
 *
 * @param fileName only for places
 */
export function readProfile(text: string, fileName: string): Profile {
  const file = new YamlFile(text, fileName);
  return PROFILE.read(new Source(file, file.root));
}

/** Reads a profile that has to be of one kind; another kind is a mistake at the file's `profile:`. */
export function readProfileOf<Kind extends ProfileKind>(
  kind: Kind,
  text: string,
  fileName: string,
): ProfileOfKind[Kind] {
  const file = new YamlFile(text, fileName);
  const stated = file.entries(file.root)?.find(({ key }) => file.keyText(key) === KIND_KEY)?.value;
  const word = file.text(stated);
  const other = PROFILE_KINDS.find((each) => each === word);
  if (other !== undefined && other !== kind) {
    file.refuse(
      "profile-kind",
      stated,
      `this describes a ${KIND_NAMES[other]}, and a ${KIND_NAMES[kind]} was asked for`,
    );
  }
  // The tag was read as `kind`, or reading it fails.
  return PROFILE.read(new Source(file, file.root)) as ProfileOfKind[Kind];
}

/** The profile as a person would write it; `readProfile` makes the same of it. */
export function writeProfile(profile: Profile): string {
  const document = new Document();
  const map = PROFILE.write(profile);
  // An empty line below the keys that every profile has.
  const first = isMap(map) ? map.items[Object.keys(HEAD).length + 1] : undefined;
  if (isScalar(first?.key)) first.key.spaceBefore = true;
  document.contents = map;
  return document.toString({ lineWidth: LINE_WIDTH, flowCollectionPadding: false });
}
