/** How a case ends, and the exceptions by which it says so. */
import type { ConformanceCase } from "./case.js";

/** The back-end did not do what the rule says. */
export class CaseFailed extends Error {
  override readonly name = "CaseFailed";
}

/** The rule does not apply to this back-end; the message says what is missing. */
export class CaseSkipped extends Error {
  override readonly name = "CaseSkipped";
}

export interface CaseResult {
  readonly case: ConformanceCase;
  readonly status: "passed" | "failed" | "skipped";
  /** Why it failed, or what it lacks; empty if it passed. */
  readonly detail: string;
  /** The end of the failed case's session: messages, packets and signals, decoded, in order. */
  readonly seen: readonly string[];
  readonly tookMs: number;
}
