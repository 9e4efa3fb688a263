/**
 * What all sessions say of a VMM's translation: whether there is any, how it is served, what it tells of unmapping.
 */
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { DEFAULT_EXPLICIT_IOTLB_BIT, has } from "../virtio/index.js";
import type { SessionFacts } from "./facts.js";
import { type Finding, fits, seen, unseen } from "./finding.js";
import { isTranslated, type Run, sessionList } from "./run.js";

export function viommu(run: Run): Finding<boolean> {
  const translated = run.on("viommu").filter(isTranslated);
  if (translated.length > 0) return seen(true, `${sessionList(translated)}: it translates there`);
  const why = run.hasPlayed("viommu")
    ? "nothing was translated there"
    : "no machine with a vIOMMU was started";
  return unseen(why);
}

export function serves(run: Run): Finding<boolean> {
  const behind = run.on("viommu");
  const served = behind.filter(({ iotlb }) => iotlb.unasked + iotlb.answers > 0);
  if (served.length > 0) {
    const { iotlb, record } = served[0];
    return seen(
      true,
      `session ${record.number}: UPDATEs, ${iotlb.unasked} of them unasked; of ${iotlb.misses} MISSes it answered ${iotlb.answers}`,
    );
  }
  if (behind.length > 0) return seen(false, `${sessionList(behind)}: no UPDATE came`);
  return unseen(run.hasPlayed("viommu") ? "nothing started behind the vIOMMU" : "no vIOMMU was there");
}

export function translates(run: Run): Finding<VmmProfile["iotlb"]["translates"]> {
  const plain = run.on("plain");
  const alone = plain.filter(isTranslated);
  if (alone.length > 0) return seen("with-iommu-platform", `${sessionList(alone)}: without a vIOMMU`);
  const behind = run.on("viommu").filter(isTranslated);
  if (behind.length === 0 || plain.length === 0) return unseen("nothing was translated");
  return seen("behind-viommu", `${sessionList(behind)}, and not ${sessionList(plain)}`);
}

export function enables(run: Run): Finding<VmmProfile["iotlb"]["enables"]> {
  const drafts = draftSessions(run);
  if (drafts.length > 0) return seen("explicit-protocol-feature", `${sessionList(drafts)}: it was taken`);
  if (run.offering("protocol-bits").every(({ protocolFeatures }) => protocolFeatures === undefined))
    return unseen("SET_PROTOCOL_FEATURES never came");
  const because = "the draft's protocol feature was not taken; a bit that nobody knows is not offered";
  return fits(["nothing", "own-bit"], because, run.base?.iotlb.enables);
}

export function enablesBit(run: Run): Finding<number | undefined> {
  const drafts = draftSessions(run);
  if (drafts.length === 0) return unseen("no such bit was taken");
  return seen(DEFAULT_EXPLICIT_IOTLB_BIT, `${sessionList(drafts)}: it was taken`);
}

/** The sessions in which the draft's protocol feature was taken. */
function draftSessions(run: Run): readonly SessionFacts[] {
  return run
    .offering("protocol-bits")
    .filter(({ protocolFeatures = 0n }) => has(protocolFeatures, DEFAULT_EXPLICIT_IOTLB_BIT));
}

export function invalidates(run: Run): Finding<VmmProfile["iotlb"]["invalidates"]> {
  const behind = run.on("viommu").filter(isTranslated);
  const told = behind.find(({ iotlb }) => iotlb.invalidations > 0);
  const { base } = run;
  if (told !== undefined) {
    const because = `session ${told.record.number}: INVALIDATE came; whether its guest unmaps at once is not known`;
    return fits(["always", "strict-only"] as const, because, base?.iotlb.invalidates);
  }
  const silent = behind.filter(({ guestAnswered }) => guestAnswered);
  if (silent.length === 0) {
    const served = serves(run);
    if (served.kind === "choice" && served.values[0] === false) return seen("never", "it serves no IOTLB");
    return unseen("nothing was translated, or the guest did not use its rings");
  }
  const because = `${sessionList(silent)}: no INVALIDATE after the guest had its buffers back`;
  return fits(["never", "strict-only"] as const, because, base?.iotlb.invalidates);
}

export function unexpectedMiss(run: Run): Finding<VmmProfile["iotlb"]["unexpectedMiss"]> {
  const tried = run.started.filter(({ unexpectedMiss }) => unexpectedMiss !== undefined);
  const [first] = tried;
  if (first?.unexpectedMiss === undefined) return unseen("there was no channel to ask on");
  if (first.unexpectedMiss === "answered")
    return unseen(`session ${first.record.number}: it answers with an UPDATE, vIOMMU or not`);
  return seen(first.unexpectedMiss, `session ${first.record.number}: a MISS without a vIOMMU`);
}
