/**
 * Plays cells for a question: built-in ones by their names, and ones of profiles that were changed for it, with the
 * words of the negotiation beside the verdict. Must not know any question.
 */
import { builtinDevice, builtinGuest, builtinVmm } from "../../profiles/builtin.js";
import type { DeviceProfile, ModelledDevice } from "../../profiles/device-profile.js";
import type { GuestProfile } from "../../profiles/guest-profile.js";
import type { Evidence } from "../../profiles/head.js";
import type { VmmProfile } from "../../profiles/vmm-profile.js";
import type { NegotiationRecord } from "../../vmm/player.js";
import { runCell, weakest } from "../cell.js";
import { CellRun } from "../cell-run.js";
import { judge } from "../judge.js";
import type { Cell } from "../record.js";
import type { Disagreement, DisagreementHead, PlayedCell } from "./disagreement.js";

/** A cell together with what was negotiated in it. */
export interface Play {
  readonly cell: PlayedCell;
  readonly words: Readonly<NegotiationRecord>;
}

export interface Line {
  readonly guest: GuestProfile;
  readonly vmm: VmmProfile;
  readonly device: DeviceProfile;
}

/** The built-in profiles behind `guest/vmm/device`. */
export function lineOf(name: string): Line {
  const [guest, vmm, device] = name.split("/");
  return { guest: builtinGuest(guest), vmm: builtinVmm(vmm), device: builtinDevice(device) };
}

/** Plays three profiles that go together. */
export async function play({ guest, vmm, device }: Line): Promise<Play> {
  const run = new CellRun(guest, vmm, device);
  try {
    await run.play();
    const facts = run.facts();
    const cell = {
      name: `${guest.name}/${vmm.name}/${device.name}`,
      evidence: weakest(guest.evidence, vmm.evidence, device.evidence),
      ...judge(facts),
    };
    return { cell, words: { ...facts.negotiation } };
  } finally {
    run.close();
  }
}

export function playedCell({ guest, vmm, device, verdict, reason, evidence }: Cell): PlayedCell {
  return { name: `${guest}/${vmm}/${device}`, verdict, reason, evidence };
}

/** What was changed for a question was seen in no program. */
const CHANGED = "derived" as const satisfies Evidence;

/** A VMM that differs from a built-in one, named after the difference. */
export function vmmWith(base: VmmProfile, difference: string, changes: Partial<VmmProfile>): VmmProfile {
  return { ...base, ...changes, name: `${base.name}+${difference}`, evidence: CHANGED };
}

/** A guest that knows further bits. */
export function guestKnowing(base: GuestProfile, difference: string, bits: bigint): GuestProfile {
  return { ...base, knows: base.knows | bits, name: `${base.name}+${difference}`, evidence: CHANGED };
}

/** A modelled device that differs from a built-in one. */
export function deviceWith(
  base: DeviceProfile,
  difference: string,
  changes: (model: ModelledDevice) => Partial<ModelledDevice>,
): DeviceProfile {
  const { behaviour } = base;
  if (behaviour.engine !== "model") throw new TypeError(`${base.name} is no model`);
  return {
    ...base,
    name: `${base.name}+${difference}`,
    evidence: CHANGED,
    behaviour: { ...behaviour, ...changes(behaviour) },
  };
}

/** For `deviceWith`: the model offers further bits. */
export const offering = (bits: bigint) => (model: ModelledDevice) => ({ features: model.features | bits });

/** A question that cells of the matrix answer: the verdict of the first one is the outcome. */
export function askCells(head: DisagreementHead, leading: string, ...beside: string[]): Disagreement {
  return {
    ...head,
    async run() {
      const cells: Cell[] = [];
      for (const name of [leading, ...beside]) {
        const { guest, vmm, device } = lineOf(name);
        cells.push(await runCell(guest, vmm, device));
      }
      const [first] = cells;
      return {
        outcome: first.verdict ?? "no-such-cell",
        facts: [first.verdict === null ? `There is no such cell: ${first.reason}.` : first.story.summary],
        cells: cells.map(playedCell),
      };
    },
  };
}
