/**
 * What was found out about one field of a profile: every value that fits what was seen, never more. Must not know
 * sessions.
 */

export type Finding<T = unknown> =
  /** One of these, the likeliest first; one value only if it is certain. */
  | { readonly kind: "choice"; readonly values: readonly T[]; readonly because: string }
  /** Of a feature word: bits that are certainly in it, and bits that certainly are not. */
  | { readonly kind: "bits"; readonly ones: bigint; readonly zeros: bigint; readonly because: string }
  | { readonly kind: "unseen"; readonly because: string };

export function seen<T>(value: T, because: string): Finding<T> {
  return { kind: "choice", values: [value], because };
}

/** Several values fit: the one that `base` has comes first, if it is among them. */
export function fits<T>(values: readonly T[], because: string, base?: T): Finding<T> {
  const first = values.filter((value) => base !== undefined && isSame(value, base));
  const others = values.filter((value) => !first.includes(value));
  return { kind: "choice", values: [...first, ...others], because };
}

export function unseen(because: string): Finding<never> {
  return { kind: "unseen", because };
}

export function bits(ones: bigint, zeros: bigint, because: string): Finding<never> {
  return { kind: "bits", ones, zeros, because };
}

/** Whether a value of the field fits what was seen. */
export function allows<T>(finding: Finding<T>, value: T): boolean {
  if (finding.kind === "unseen") return true;
  if (finding.kind === "choice") return finding.values.some((each) => isSame(each, value));
  const word = value as bigint;
  return (word & finding.ones) === finding.ones && (word & finding.zeros) === 0n;
}

/** Values of profiles are plain data. For lists whose order says nothing, see `isSameSet`. */
export function isSame(one: unknown, other: unknown): boolean {
  return textOf(one) === textOf(other);
}

export function isSameSet(one: readonly unknown[], other: readonly unknown[]): boolean {
  return isSame(one.map(textOf).sort(), other.map(textOf).sort());
}

function textOf(value: unknown): string | undefined {
  return JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? `${part}n` : part));
}
