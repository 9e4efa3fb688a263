/**
 * What a conformance case is: a value with a rule, what the rule needs to apply, and a function that tries it. Anybody
 * can make one and hand it to `runCases`; this project's own are in cases/. Must not know how a case is run.
 */
import type { F, PROTOCOL_F, VSOCK_F } from "../virtio/index.js";
import type { CaseContext } from "./context.js";

/** A bit of the virtio feature word, by its name in `bit33 features --list`. */
export type FeatureName = keyof typeof F | keyof typeof VSOCK_F;
/** A vhost-user protocol feature, likewise. */
export type ProtocolFeatureName = keyof typeof PROTOCOL_F;

/**
 * Where it is written, or who agrees on it. A case is kept only if its rule is in a specification, or if Linux and one
 * more implementation agree.
 */
export type Rule =
  | {
      readonly document: string;
      /** By its title or number. */
      readonly section: string;
      /** The rule in a sentence, near the document's own words. */
      readonly says: string;
    }
  | {
      /** Programs with the place in their source. */
      readonly agreed: readonly [string, string, ...string[]];
      readonly says: string;
    };

/** What has to be there for a rule to apply. What is missing makes a case skipped, by name. */
export interface Needs {
  readonly features?: readonly FeatureName[];
  readonly protocolFeatures?: readonly ProtocolFeatureName[];
  /** `uds`: the hybrid socket of `--uds-path`, through which the host's programs reach the guest and it reaches them. */
  readonly endpoints?: readonly "uds"[];
}

export interface ConformanceCase {
  /** Family and name, in lower case: `rings.index-wrap`. Stable. */
  readonly id: string;
  /** What a conforming back-end does, as a sentence. */
  readonly title: string;
  readonly rule: Rule;
  readonly needs: Needs;
  /** For a case that moves much: how long it may take altogether. */
  readonly limitMs?: number;
  /**
   * Tries the rule on a fresh session. Fails by throwing: `context.expect` does it, and so does every call that the
   * back-end leaves unanswered.
   */
  run(context: CaseContext): void | Promise<void>;
}

/** One line: "VIRTIO 1.4, 5.10.6.3: a packet of …". */
export function describeRule(rule: Rule): string {
  const source = "document" in rule ? `${rule.document}, ${rule.section}` : rule.agreed.join("; ");
  return `${source}: ${rule.says}`;
}
