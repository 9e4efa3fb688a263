/**
 * Feature words in files: lists of names from the registry, of `bit 42` for a bit without a name, and of
 * `bits 0-17` for many in a row. Must not know which word stands where, nor any bit by name.
 */
import { Scalar, YAMLSeq } from "yaml";
import { quoted } from "../../config/quoted.js";
import {
  backendFeature,
  backendFeatures,
  bitsOf,
  FEATURE_WORD_BITS,
  featuresNamed,
  mask,
  type NamedFeature,
  nearNames,
  protocolFeature,
  protocolFeatures,
  virtioFeature,
  virtioFeatures,
} from "../../virtio/index.js";
import type { Shape, Source } from "./shape.js";

export type WordKind = "virtio" | "protocol" | "backend";

interface Word {
  readonly title: string;
  readonly named: readonly NamedFeature[];
  find(bit: number): NamedFeature | undefined;
}

const WORDS: Readonly<Record<WordKind, Word>> = {
  virtio: {
    title: "virtio feature",
    named: virtioFeatures("vsock"),
    find: (bit) => virtioFeature(bit, "vsock"),
  },
  protocol: { title: "vhost-user protocol feature", named: protocolFeatures(), find: protocolFeature },
  backend: { title: "vhost backend feature", named: backendFeatures(), find: backendFeature },
};

const WORD_KINDS = Object.keys(WORDS) as WordKind[];

/** As many in a row are written as a range. */
const SHORTEST_RANGE = 8;

/** A longer list has a line for each of its items. */
const LONGEST_LINE = 80;

/** A word of features: `[VERSION_1, EVENT_IDX, bit 45, bits 0-17]`. */
export function featureWord(kind: WordKind): Shape<bigint> {
  const notation = `a list of ${WORDS[kind].title}s`;
  return {
    description: { kind: "value", notation },
    read(source) {
      const items = source.file.items(source.node);
      if (items === undefined) {
        const example = "write it in brackets, as [VERSION_1, EVENT_IDX], or [] for none";
        return source.refuse("value-malformed", `${source.name} is not ${notation}; ${example}`);
      }
      return items
        .map((node, index) => readItem(source.child(String(index + 1), node), kind))
        .reduce((word, bits) => word | bits, 0n);
    },
    write(value) {
      const list = new YAMLSeq();
      const items = writtenItems(value, kind);
      list.flow = items.join(", ").length <= LONGEST_LINE;
      list.items = items.map((item) => new Scalar(item));
      return list;
    },
  };
}

/** A single bit of a word, by name or as `bit 45`. */
export function featureBit(...kinds: readonly WordKind[]): Shape<number> {
  return {
    description: {
      kind: "value",
      notation: `a ${kinds.map((kind) => WORDS[kind].title).join(" or ")}, or \`bit 45\``,
    },
    read(source) {
      const [bit, ...more] = bitsOf(readItem(source, kinds[0], kinds));
      if (more.length === 0) return bit;
      return source.refuse("value-malformed", `${source.name} is one bit; write one name, or \`bit 45\``);
    },
    write: (bit) => new Scalar(itemOf(bit, kinds[0])),
  };
}

function readItem(source: Source, kind: WordKind, kinds: readonly WordKind[] = [kind]): bigint {
  const typed = source.text(`the name of a ${WORDS[kind].title}, or \`bit 45\``);
  const numbers = /^bits? (\d+)(?:-(\d+))?$/.exec(typed);
  if (numbers !== null) return readNumbers(source, typed, Number(numbers[1]), numbers[2]);
  if (/^[^a-z]/i.test(typed)) {
    const problem = `${quoted(typed)} is not a feature; write its name, or \`bit 45\` for a bit without one`;
    return source.refuse("value-malformed", problem);
  }
  for (const each of kinds) {
    const { named } = WORDS[each];
    const exact = named.find(({ name }) => name === typed);
    const found = exact === undefined ? featuresNamed(typed, named) : [exact];
    if (found.length === 1) return mask(found[0].bit);
    if (found.length > 1) {
      const names = found.map(({ name, bit }) => `${name} (bit ${bit})`).join(" or ");
      return source.refuse("feature-unknown", `${quoted(typed)} is ${names}; write which`);
    }
  }
  return source.refuse("feature-unknown", notUnderstood(typed, kind));
}

function readNumbers(source: Source, typed: string, first: number, lastText: string | undefined): bigint {
  const last = lastText === undefined ? first : Number(lastText);
  if (last >= FEATURE_WORD_BITS) {
    const problem = `${quoted(typed)} is outside of the word, whose bits are 0 to ${FEATURE_WORD_BITS - 1}`;
    return source.refuse("value-out-of-range", problem);
  }
  if (first > last) {
    return source.refuse("value-malformed", `${quoted(typed)} runs backwards; write bits ${last}-${first}`);
  }
  return mask(last + 1) - mask(first);
}

function notUnderstood(typed: string, kind: WordKind): string {
  const { title, named } = WORDS[kind];
  const owner = WORD_KINDS.find(
    (other) => other !== kind && featuresNamed(typed, WORDS[other].named).length > 0,
  );
  if (owner !== undefined) return `${typed} is a ${WORDS[owner].title}, and this is the place of ${title}s`;
  const near = nearNames(typed, named);
  const hint =
    near.length === 0
      ? "`bit33 features --list` prints all names, and `bit 45` stands for a bit without one"
      : `did you mean ${near.join(" or ")}?`;
  return `unknown ${title} ${quoted(typed)}; ${hint}`;
}

function writtenItems(word: bigint, kind: WordKind): string[] {
  const items: string[] = [];
  const bits = bitsOf(word);
  for (let index = 0; index < bits.length; ) {
    let end = index + 1;
    while (bits[end] === bits[end - 1] + 1) end++;
    if (end - index >= SHORTEST_RANGE) items.push(`bits ${bits[index]}-${bits[end - 1]}`);
    else items.push(...bits.slice(index, end).map((bit) => itemOf(bit, kind)));
    index = end;
  }
  return items;
}

function itemOf(bit: number, kind: WordKind): string {
  return WORDS[kind].find(bit)?.name ?? `bit ${bit}`;
}
