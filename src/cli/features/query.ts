/**
 * What was asked: each argument as the bits that it means, be it a number or a name, or a UsageError with its
 * place. Must not know how the answer looks.
 */

import {
  bitsOf,
  FEATURE_WORD_BITS,
  featuresNamed,
  mask,
  maskOf,
  type NamedFeature,
  nearNames,
} from "../../virtio/index.js";
import { UsageError } from "../usage-error.js";
import { BACKEND_DICTIONARY, type Dictionary, protocolDictionary, virtioDictionary } from "./dictionary.js";

/** One bit of an answer; without a feature if nobody has named it. */
export interface DecodedBit {
  readonly bit: number;
  readonly feature?: NamedFeature;
}

export interface Query {
  readonly typed: string;
  readonly value: bigint;
  readonly bits: readonly DecodedBit[];
  /** A whole word, or one bit given by its name or number. */
  readonly form: "word" | "name" | "bit";
}

/** `0x…`, `0b…` or decimal, as C writes them: any case, `ULL` behind it, `_` between digits. */
const NUMBER = /^(0x[0-9a-f][0-9a-f_]*|0b[01][01_]*|[0-9][0-9_]*)u?l{0,2}$/i;
/** `bit33` as our own output writes a nameless bit, `1<<33` and `BIT_ULL(33)` as C does. */
const ONE_BIT = /^(?:bit[ :_]?|1u?l{0,2} ?<< ?|BIT(?:_ULL)?\()(\d+)\)?$/i;
const HEX_DIGITS_ALONE = /^(?!0b)(?=.*[0-9])[0-9a-f]+$/i;

/** The arguments in order; the first one that is wrong throws. */
export function readQueries(words: readonly string[], dictionary: Dictionary): Query[] {
  return words.map((typed, index) => readQuery(typed, `argument ${index + 1}`, dictionary));
}

function readQuery(typed: string, where: string, dictionary: Dictionary): Query {
  const number = NUMBER.exec(typed);
  if (number !== null) {
    const value = BigInt(number[1].replaceAll("_", ""));
    if (value >> BigInt(FEATURE_WORD_BITS) !== 0n) {
      throw new UsageError("word-malformed", `${typed} has more than ${FEATURE_WORD_BITS} bits`, where);
    }
    return { typed, value, bits: decode(bitsOf(value), dictionary), form: "word" };
  }
  const one = ONE_BIT.exec(typed);
  if (one !== null) {
    const bit = Number(one[1]);
    if (bit >= FEATURE_WORD_BITS) {
      const problem = `${typed} is outside of the word, whose bits are 0 to ${FEATURE_WORD_BITS - 1}`;
      throw new UsageError("word-malformed", problem, where);
    }
    return { typed, value: mask(bit), bits: decode([bit], dictionary), form: "bit" };
  }
  const found = featuresNamed(typed, dictionary.named);
  if (found.length === 0) throw notUnderstood(typed, where, dictionary);
  const bits = found.map((feature) => ({ bit: feature.bit, feature }));
  return { typed, value: maskOf(...bits.map(({ bit }) => bit)), bits, form: "name" };
}

function decode(bits: readonly number[], dictionary: Dictionary): DecodedBit[] {
  return bits.map((bit) => {
    const feature = dictionary.find(bit);
    return feature === undefined ? { bit } : { bit, feature };
  });
}

function notUnderstood(typed: string, where: string, dictionary: Dictionary): UsageError {
  const quoted = JSON.stringify(typed);
  if (HEX_DIGITS_ALONE.test(typed)) {
    return new UsageError(
      "word-malformed",
      `${quoted} is not a number; in hexadecimal it is 0x${typed}`,
      where,
    );
  }
  if (typed === "" || /^[^a-z]/i.test(typed)) {
    const problem = `${quoted} is neither a number (0x…, 0b… or decimal) nor the name of a feature`;
    return new UsageError("word-malformed", problem, where);
  }
  const elsewhere = inAnotherWord(typed, dictionary);
  if (elsewhere !== undefined) return new UsageError("feature-unknown", elsewhere, where);
  const near = nearNames(typed, dictionary.named);
  const hint = near.length === 0 ? "--list prints all names" : `did you mean ${near.join(" or ")}?`;
  return new UsageError("feature-unknown", `unknown feature ${quoted}; ${hint}`, where);
}

/** A name of one of the other two words: the option is missing, not the feature. */
function inAnotherWord(typed: string, { kind }: Dictionary): string | undefined {
  const others = [
    { dictionary: virtioDictionary(), what: "a virtio feature", advice: `leave out --${kind}` },
    { dictionary: protocolDictionary(), what: "a vhost-user protocol feature", advice: "say --protocol" },
    { dictionary: BACKEND_DICTIONARY, what: "a vhost backend feature", advice: "say --backend" },
  ];
  const owner = others.find(
    ({ dictionary }) => dictionary.kind !== kind && featuresNamed(typed, dictionary.named).length > 0,
  );
  return owner === undefined ? undefined : `${typed} is ${owner.what}; ${owner.advice}`;
}
