/**
 * What a disagreement is: two programs that are each right by their own reading, a question that a run can answer, and
 * what had been concluded by reading before anything was run. Data and types only; the cases are beside this file.
 * Must not know how anything is run.
 */

/** What stands behind an outcome. */
export type FindingEvidence =
  /** It happened in the run: profiles and this project's own code played against each other. */
  | "executed"
  /** It cannot be made to happen here; `why` of the finding says what is missing. */
  | "derived";

/** What came out of a run. */
export interface Finding {
  /** Stable: tests and other pages rely on it. Lower-case letters, digits and dashes. */
  readonly outcome: string;
  /** What happened, as sentences, in the order in which it did; each was seen in the run. */
  readonly facts: readonly string[];
  readonly evidence: FindingEvidence;
  /** Why it is only derived; with `derived` alone. */
  readonly why?: string;
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
}

export interface Disagreement extends DisagreementHead {
  /** What `reading` comes to, as an outcome; where the run finds another one, the run wins and the page says so. */
  readonly expected: string;
  run(): Promise<Finding>;
}
