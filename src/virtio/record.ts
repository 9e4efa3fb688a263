/**
 * What the registry knows of one feature bit, and how a table of such records becomes constants.
 *
 * It holds no feature itself: the tables are transport-features.ts, vsock-features.ts,
 * protocol-features.ts and backend-features.ts; registry.ts looks them up.
 */

/** One feature bit: its number and names, and what each party takes it to mean. */
export interface FeatureRecord {
  /** Bit number in the 64-bit word. */
  readonly bit: number;
  /** The constant's whole name, where it is not simply the table's prefix and the name. */
  readonly symbol?: string;
  /** Earlier names, newest first, without the prefix of the constant unless it was another one. */
  readonly formerNames?: readonly string[];
  /** Names that other documents and programs use for the number today. */
  readonly otherNames?: readonly string[];
  /** What it means to a driver in the guest. */
  readonly toGuest?: string;
  /** What it means in the word of a kernel vhost device (VHOST_GET_FEATURES, VHOST_SET_FEATURES). */
  readonly toVhostKernel?: string;
  /** What it means in the word of a vhost-user back-end. */
  readonly toVhostUser?: string;
  /** Where the meanings part, and what goes wrong if one is taken for another. */
  readonly disagreement?: string;
  /** How name, number or meaning moved, oldest first. */
  readonly history?: readonly string[];
  /** Set for a bit that no specification assigns. */
  readonly nonstandard?: true;
  /** Document and section, or program and file. */
  readonly source: string;
}

/** A table of records by current name, without the prefix that all names of the table share. */
export type FeatureTable = Readonly<Record<string, FeatureRecord>>;

/** The bit numbers of a table, by name, with literal types. */
export type BitNumbers<T extends FeatureTable> = { readonly [Name in keyof T]: T[Name]["bit"] };

/** Makes the constants of a table, so that number and meaning are written down once. */
export function bitNumbers<const T extends FeatureTable>(table: T): BitNumbers<T> {
  const numbers = Object.entries(table).map(([name, record]) => [name, record.bit]);
  return Object.freeze(Object.fromEntries(numbers)) as BitNumbers<T>;
}
