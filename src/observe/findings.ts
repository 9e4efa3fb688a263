/**
 * From the facts of all sessions to one finding a field of a VMM profile. Nothing is claimed that was not seen: a field
 * that two values fit has both. The findings are in feature-findings.ts, start-findings.ts and translation-findings.ts.
 */
import type { VmmProfile } from "../profiles/vmm-profile.js";
import type { SessionFacts } from "./facts.js";
import * as words from "./feature-findings.js";
import type { FieldName, FieldValue } from "./fields.js";
import { type Finding, unseen } from "./finding.js";
import { Run } from "./run.js";
import * as start from "./start-findings.js";
import * as translation from "./translation-findings.js";

export type Findings = { readonly [Name in FieldName]: Finding<FieldValue<Name>> };

/** @param base the profile that decides where several values fit what was seen */
export function findingsOf(all: readonly SessionFacts[], base: VmmProfile | undefined): Findings {
  const run = new Run(all, base);
  const bit33 = words.bit33(run);
  return {
    "machine.viommu": translation.viommu(run),
    "machine.protectedMemory": unseen("nothing on the socket shows it"),
    "offer.passed": words.passed(run),
    "offer.own": words.own(run),
    "offer.bit33": bit33.offer,
    "acknowledge.maskedByDevice": words.maskedByDevice(run),
    "acknowledge.adds": words.adds(run),
    "acknowledge.masks": words.masks(run),
    "acknowledge.bit33": bit33.passing,
    asksDevice: start.asksDevice(run),
    protocolFeatures: words.protocolFeatures(run),
    backendFeatures: unseen("a matter of the kernel's devices"),
    backendChannel: start.backendChannel(run),
    order: start.order(run),
    queues: start.queues(run),
    earlyRings: start.earlyRings(run),
    needReply: start.needReply(run),
    memory: start.memory(run),
    resetsDevice: start.resetsDevice(run),
    configFlags: start.configFlags(run),
    "iotlb.serves": translation.serves(run),
    "iotlb.translates": translation.translates(run),
    "iotlb.enables": translation.enables(run),
    "iotlb.enablesBit": translation.enablesBit(run),
    "iotlb.invalidates": translation.invalidates(run),
    "iotlb.unmappedUsedRing": unseen("no observed guest leaves its used rings unmapped"),
    "iotlb.unexpectedMiss": translation.unexpectedMiss(run),
    ringAddresses: start.ringAddresses(run),
    refuses: start.refuses(run),
  };
}
