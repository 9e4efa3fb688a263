/**
 * Runs one cell of the matrix: whether the three go together at all, the play, the verdict, the story. Never throws for
 * what a profile says; an exception is a mistake of this program.
 */
import type { CanaryOrder } from "../guest/canary.js";
import type { DeviceProfile } from "../profiles/device-profile.js";
import type { GuestProfile } from "../profiles/guest-profile.js";
import type { Evidence } from "../profiles/head.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { CellRun, MODELLED } from "./cell-run.js";
import { type Judgement, judge } from "./judge.js";
import type { RunCell } from "./matrix.js";
import { type Cell, type CellConfig, compareVerdicts, type Story } from "./record.js";
import { tellStory } from "./story.js";

export const runCell: RunCell = async (guest, vmm, device): Promise<Cell> => {
  const head = {
    guest: guest.name,
    vmm: vmm.name,
    device: device.name,
    evidence: weakest(guest.evidence, vmm.evidence, device.evidence),
    sources: [...new Set([...guest.source, ...vmm.source, ...device.source])],
  };
  const obstacle = inapplicable(guest, vmm, device);
  if (obstacle !== undefined) return { ...head, verdict: null, reason: obstacle };
  const first = await play(guest, vmm, device, "guest-physical-first");
  // The first address of a canary may be where a ring ends; so what came through is played again the other way round.
  const second =
    first.triedCanary && first.verdict === "works" ? await play(guest, vmm, device, "user-first") : first;
  const { verdict, reason, story } = compareVerdicts(second.verdict, first.verdict) > 0 ? second : first;
  return { ...head, verdict, reason, config: configOf(guest, vmm, device), story };
};

async function play(
  guest: GuestProfile,
  vmm: VmmProfile,
  device: DeviceProfile,
  canaryOrder: CanaryOrder,
): Promise<Judgement & { readonly story: Story; readonly triedCanary: boolean }> {
  const run = new CellRun(guest, vmm, device, { ...MODELLED, canaryOrder });
  try {
    await run.play();
    const facts = run.facts();
    const judgement = judge(facts);
    return { ...judgement, story: tellStory(facts, judgement), triedCanary: facts.canary !== undefined };
  } finally {
    run.close();
  }
}

/** Why the three make no cell, in one clause. */
function inapplicable(guest: GuestProfile, vmm: VmmProfile, device: DeviceProfile): string | undefined {
  if (!device.transports.includes(vmm.transport)) {
    const [has, wants] = [device.transports.join(" and "), vmm.transport];
    return `${device.name} is reached by ${has}, and ${vmm.name} drives ${wants} devices`;
  }
  if (guest.machine.viommu && !vmm.machine.viommu)
    return `${guest.name} needs a vIOMMU in front of the device, and ${vmm.name} has none`;
  if (guest.machine.protectedMemory && !vmm.machine.protectedMemory)
    return `${guest.name} needs protected memory, and ${vmm.name} does not run protected guests`;
  return undefined;
}

const EVIDENCE: readonly Evidence[] = ["executed", "derived", "proposed"];

export function weakest(...all: readonly Evidence[]): Evidence {
  return all.reduce((a, b) => (EVIDENCE.indexOf(b) > EVIDENCE.indexOf(a) ? b : a));
}

function configOf({ machine, unmapping }: GuestProfile, vmm: VmmProfile, device: DeviceProfile): CellConfig {
  return { ...machine, unmapping, transport: vmm.transport, deviceOptions: optionsOf(device) };
}

function optionsOf({ behaviour }: DeviceProfile): string {
  if (behaviour.engine === "model") return "";
  return `--iotlb ${behaviour.iotlb} --access-platform ${behaviour.accessPlatform ? "on" : "off"}`;
}
