/**
 * The profile that comes out of an observation: for each field what was seen, else what the base profile says, else what
 * is assumed, and the file in which a comment above each field says which of these it is.
 */
import { type Document, isMap, isScalar, type Pair, parseDocument, type YAMLMap } from "yaml";
import { readProfileOf, writeProfile } from "../profiles/schema/index.js";
import { yamlKey } from "../profiles/schema/shape.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { type Evidence, evidenceFor } from "./evidence.js";
import { FIELD_NAMES, type FieldName, type FieldValue } from "./fields.js";
import type { Findings } from "./findings.js";

/** What the profile calls itself and where it comes from. */
export interface ProfileHeading {
  readonly name: string;
  readonly program: string;
  readonly summary: string;
  readonly source: readonly string[];
}

export interface ObservedProfile {
  readonly profile: VmmProfile;
  /** One a field, in the order of FIELDS. */
  readonly evidence: readonly Evidence[];
}

type Values = { readonly [Name in FieldName]: FieldValue<Name> };

export function observedProfile(
  findings: Findings,
  heading: ProfileHeading,
  base: VmmProfile | undefined,
): ObservedProfile {
  const evidence = FIELD_NAMES.map((name) => evidenceFor(name, findings[name], base));
  // Each field's value is of its own type: it is the finding's, the base's or the assumption's of that field.
  const v = Object.fromEntries(evidence.map(({ field, value }) => [field, value])) as unknown as Values;
  const profile: VmmProfile = {
    kind: "vmm",
    ...heading,
    evidence: "executed",
    transport: "vhost-user",
    machine: {
      viommu: v["machine.viommu"],
      // Where nothing else explains bit 33, memory is protected.
      protectedMemory: v["machine.protectedMemory"] || v["offer.bit33"].startsWith("if-protected"),
    },
    offer: { passed: v["offer.passed"], own: v["offer.own"], bit33: v["offer.bit33"] },
    acknowledge: {
      maskedByDevice: v["acknowledge.maskedByDevice"],
      adds: v["acknowledge.adds"],
      masks: v["acknowledge.masks"],
      bit33: v["acknowledge.bit33"],
    },
    asksDevice: v.asksDevice,
    protocolFeatures: v.protocolFeatures,
    backendFeatures: v.backendFeatures,
    backendChannel: v.backendChannel,
    order: v.order,
    queues: v.queues,
    earlyRings: v.earlyRings,
    needReply: v.needReply,
    memory: v.memory,
    resetsDevice: v.resetsDevice,
    configFlags: v.configFlags,
    iotlb: {
      serves: v["iotlb.serves"],
      translates: v["iotlb.translates"],
      enables: v["iotlb.enables"],
      enablesBit: v["iotlb.enablesBit"],
      invalidates: v["iotlb.invalidates"],
      unmappedUsedRing: v["iotlb.unmappedUsedRing"],
      unexpectedMiss: v["iotlb.unexpectedMiss"],
    },
    ringAddresses: v.ringAddresses,
    refuses: v.refuses,
  };
  return { profile, evidence };
}

/** Wide enough that most evidence has one line; YAML does not care. */
const COMMENT_WIDTH = 110;

/** The file. Throws a ConfigError if what was seen and what was taken from the base contradict each other. */
export function writeObserved({ profile, evidence }: ObservedProfile, preface: readonly string[]): string {
  const plain = writeProfile(profile);
  readProfileOf("vmm", plain, "the observed profile");
  const document = parseDocument(plain);
  document.commentBefore = preface.map((line) => ` ${line}`).join("\n");
  for (const { field, because } of evidence) {
    const pair = pairAt(document, field.split(".").map(yamlKey));
    if (pair !== undefined && isScalar(pair.key)) pair.key.commentBefore = wrapped(because);
  }
  return document.toString({ lineWidth: 100, flowCollectionPadding: false });
}

function pairAt(document: Document, path: readonly string[]): Pair | undefined {
  let map: unknown = document.contents;
  let found: Pair | undefined;
  for (const key of path) {
    if (!isMap(map)) return undefined;
    found = (map as YAMLMap).items.find((item) => isScalar(item.key) && item.key.value === key);
    map = found?.value;
  }
  return found;
}

function wrapped(text: string): string {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const line = lines.at(-1);
    if (line === undefined || line.length + word.length >= COMMENT_WIDTH) lines.push(` ${word}`);
    else lines[lines.length - 1] = `${line} ${word}`;
  }
  return lines.join("\n");
}
