/**
 * Runs one cell of the matrix: whether the three go together at all, the play, the verdict, the story. Never throws for
 * what a profile says; an exception is a mistake of this program.
 */
import type { DeviceProfile } from "../profiles/device-profile.js";
import type { GuestProfile } from "../profiles/guest-profile.js";
import type { Evidence } from "../profiles/head.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { CellRun } from "./cell-run.js";
import { judge } from "./judge.js";
import type { RunCell } from "./matrix.js";
import type { Cell, CellConfig } from "./record.js";
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
  const run = new CellRun(guest, vmm, device);
  try {
    await run.play();
    const facts = run.facts();
    const judgement = judge(facts);
    const story = tellStory(facts, judgement);
    return { ...head, ...judgement, config: configOf(guest, vmm, device), story };
  } finally {
    run.close();
  }
};

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
