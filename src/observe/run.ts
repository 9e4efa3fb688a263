/**
 * All sessions of an observation, and the questions that findings ask of them. Draws no conclusions.
 */
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { hasStarted, type SessionFacts } from "./facts.js";
import type { Machine, OfferId } from "./offers.js";

export class Run {
  /** Sessions in which SET_FEATURES came. */
  readonly told: readonly (SessionFacts & { readonly features: bigint })[];
  readonly started: readonly SessionFacts[];
  /** The start that shows most: a translating one if there is one, and with the fullest offer. */
  readonly best: SessionFacts | undefined;

  constructor(
    readonly all: readonly SessionFacts[],
    /** Decides where several values fit what was seen. */
    readonly base: VmmProfile | undefined,
  ) {
    this.told = all.filter(
      (facts): facts is SessionFacts & { features: bigint } => facts.features !== undefined,
    );
    this.started = all.filter(hasStarted);
    const isFull = ({ record }: SessionFacts): boolean => record.offer.id !== "minimal";
    this.best = this.started.find(isTranslated) ?? this.started.find(isFull) ?? this.started[0];
  }

  on(machine: Machine): readonly SessionFacts[] {
    return this.started.filter(({ record }) => record.machine === machine);
  }

  offering(id: OfferId): readonly SessionFacts[] {
    return this.all.filter(({ record }) => record.offer.id === id);
  }

  hasPlayed(machine: Machine): boolean {
    return this.all.some(({ record }) => record.machine === machine);
  }
}

export function isTranslated({ ringAddresses, iotlb }: SessionFacts): boolean {
  return ringAddresses.includes("iova") || iotlb.unasked + iotlb.answers > 0;
}

/** "sessions 1, 2". */
export function sessionList(sessions: readonly SessionFacts[]): string {
  return numberList(sessions.map(({ record }) => record.number));
}

export function numberList(numbers: readonly number[]): string {
  return `${numbers.length === 1 ? "session" : "sessions"} ${numbers.join(", ")}`;
}
