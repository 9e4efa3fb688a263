/**
 * What comes out of a cell: a verdict with its reason, what was assumed, and the story of how it came about. Data
 * only; text, JSON and pages are made of it elsewhere.
 */

/** Best first: `compareVerdicts` goes by this order. */
export const VERDICTS = [
  "works",
  /** Somebody said no, cleanly, before the start. */
  "refused",
  /** The start was tried and failed. */
  "fails-to-start",
  /** No progress: an unanswered miss. */
  "stalls",
  /** The VMM's, the guest's or the device's process is gone. */
  "crashes",
  /** The device touched memory that the guest never shared. */
  "faults",
  /** Stale or wrong data. */
  "corrupts",
  /** The device could reach memory that the vIOMMU withheld. */
  "exposes",
] as const;
export type Verdict = (typeof VERDICTS)[number];

/** Negative: `a` is better; positive: worse. */
export function compareVerdicts(a: Verdict, b: Verdict): number {
  return VERDICTS.indexOf(a) - VERDICTS.indexOf(b);
}

export type Actor = "guest" | "vmm" | "device";

export type StepKind =
  /** A feature word offered, masked or acknowledged. */
  | "negotiation"
  /** A message or request. */
  | "message"
  /** What somebody now holds to be true of bit 33. */
  | "belief"
  /** The device resolved an address, or failed to. */
  | "access"
  /** Data arrived, or not. */
  | "data"
  /** Somebody said no, or is gone. */
  | "end";

/** One thing that happened. */
export interface Step {
  readonly kind: StepKind;
  readonly actor: Actor;
  /** One line. */
  readonly text: string;
  /** This is where belief and fact part. At most one step of a story. */
  readonly parting?: true;
}

export interface Story {
  readonly steps: readonly Step[];
  /** What each side believed bit 33 to mean in the end, one sentence each. */
  readonly beliefs: Readonly<Record<Actor, string>>;
  /** The cell as its maintainers would tell it: a few sentences, plain text without line breaks. */
  readonly summary: string;
}

/** What was assumed. */
export interface CellConfig {
  readonly protectedMemory: boolean;
  readonly iommuPlatform: boolean;
  readonly viommu: boolean;
  readonly unmapping: "strict" | "lazy";
  readonly transport: "kernel" | "vhost-user";
  /** Options of the device, as its user would write them; empty if it has none. */
  readonly deviceOptions: string;
}

interface CellHead {
  readonly guest: string;
  readonly vmm: string;
  readonly device: string;
  /** One clause for a table cell. */
  readonly reason: string;
  /** The weakest of the three profiles' evidence. */
  readonly evidence: "executed" | "derived" | "proposed";
  /** Where the profiles come from. */
  readonly sources: readonly string[];
}

/** A cell that ran. */
export interface CellRecord extends CellHead {
  readonly verdict: Verdict;
  readonly config: CellConfig;
  readonly story: Story;
}

/** A combination that makes no sense; `reason` says why. */
export interface InapplicableCell extends CellHead {
  readonly verdict: null;
}

export type Cell = CellRecord | InapplicableCell;

/** `guest/vmm/device`, as commands name a cell. */
export function cellName({ guest, vmm, device }: Pick<Cell, "guest" | "vmm" | "device">): string {
  return `${guest}/${vmm}/${device}`;
}
