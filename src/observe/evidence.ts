/**
 * What a field of an observed profile rests on: seen, seen in part, or not seen and from elsewhere. Must not know
 * sessions.
 */
import type { VmmProfile } from "../profiles/vmm-profile.js";
import { FIELDS, type FieldName, fieldOf } from "./fields.js";
import type { Finding } from "./finding.js";

export interface Evidence {
  readonly field: FieldName;
  readonly value: unknown;
  /** Only this value fits; others fit too, or only some bits are known; nothing was seen. */
  readonly certainty: "seen" | "fits" | "not-seen";
  /** The whole sentence, as it stands in the file. */
  readonly because: string;
  /** All values that fit, where it is several. */
  readonly fits?: readonly unknown[];
}

/** The value that a field gets, and why. */
export function evidenceFor(field: FieldName, finding: Finding, base: VmmProfile | undefined): Evidence {
  const otherwise: unknown = base === undefined ? FIELDS[field].assumed : fieldOf(field, base);
  const elsewhere = base === undefined ? "assumed" : `taken from --base ${base.name}`;
  const { because } = finding;
  switch (finding.kind) {
    case "unseen":
      return {
        field,
        value: otherwise,
        certainty: "not-seen",
        because: `not seen (${because}); ${elsewhere}`,
      };
    case "bits":
      return {
        field,
        value: ((otherwise as bigint) & ~finding.zeros) | finding.ones,
        certainty: "fits",
        because: `seen: ${because}; what is not known is ${elsewhere}`,
      };
    case "choice":
      return finding.values.length === 1
        ? { field, value: finding.values[0], certainty: "seen", because: `seen: ${because}` }
        : severalFit(field, finding.values, because, base);
  }
}

function severalFit(
  field: FieldName,
  values: readonly unknown[],
  because: string,
  base: VmmProfile | undefined,
): Evidence {
  const [value] = values;
  const isBases = base !== undefined && value === fieldOf(field, base);
  const which = isBases ? `it is the one of --base ${base.name}` : "which of them was not seen";
  const shown = values.map((each) => (typeof each === "object" ? JSON.stringify(each) : String(each)));
  return {
    field,
    value,
    certainty: "fits",
    because: `seen: ${because}; ${shown.join(", ")} fit that, ${which}`,
    fits: values,
  };
}
