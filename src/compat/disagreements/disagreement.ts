/**
 * What a disagreement is: two programs that are each right by their own reading, a question that a run can answer, and
 * what had been concluded by reading before anything was run. Types only; the cases are beside this file.
 * Must not know how anything is run, nor how outcomes are printed.
 */
import type { Evidence } from "../../profiles/head.js";
import type { Verdict } from "../record.js";

/** A cell of the matrix, or one of a profile that was changed for the question. */
export interface PlayedCell {
  /** `guest/vmm/device`; a profile that was changed bears its change in its name. */
  readonly name: string;
  /** Null: the three make no cell. */
  readonly verdict: Verdict | null;
  readonly reason: string;
  /** The weakest of the profiles that took part. */
  readonly evidence: Evidence;
}

/** What came out of a run. */
export interface Finding {
  /** Stable: tests and other pages rely on it. Lower-case letters, digits and dashes. */
  readonly outcome: string;
  /** What happened, as sentences, in the order in which it did; each was seen in the run. */
  readonly facts: readonly string[];
  readonly cells: readonly PlayedCell[];
  /** What cannot be made to happen here, and is only read from sources; a sentence each. */
  readonly derived?: readonly string[];
}

export interface DisagreementHead {
  /** Stable, and an anchor of docs/disagreements.md. */
  readonly id: string;
  /** A sentence without its full stop: the name of the case in the suite. */
  readonly title: string;
  readonly question: string;
  /** Where each side of it can be read. At least one. */
  readonly sources: readonly string[];
  /** What had been concluded by reading, as a sentence. */
  readonly reading: string;
  /** What `reading` comes to, as an outcome. Where the run finds another one, the run wins and the page says so. */
  readonly expected: string;
  /** The outcome under which the reading is right and comes to nothing for a vsock device. */
  readonly moot?: string;
  /** What follows from what the run found; where it contradicts the reading, what the reading had missed. */
  readonly lesson: string;
}

export interface Disagreement extends DisagreementHead {
  run(): Promise<Finding>;
}
