/**
 * Shapes of lists and maps. A map is read key by key, in the order of the file, so that the first mistake that a
 * person comes to is the one that is reported; what is missing, and what contradicts itself, comes after that.
 * Must not know which keys there are.
 */
import { type Node, Pair, Scalar, YAMLMap, YAMLSeq } from "yaml";
import { quoted } from "../../config/quoted.js";
import { didYouMean } from "../../config/suggest.js";
import { readWord } from "./scalars.js";
import { type Description, type KeyDescription, type Shape, type Source, yamlKey } from "./shape.js";

export interface ListOptions {
  /** What such a list is called: "a list of sources". */
  readonly notation: string;
  /** How many items it has at least. Default none. */
  readonly least?: number;
  /** Written in one line, in brackets. */
  readonly flow?: boolean;
}

export function listOf<T>(
  item: Shape<T>,
  { notation, least = 0, flow = false }: ListOptions,
): Shape<readonly T[]> {
  return {
    description: { kind: "list", notation, item: item.description },
    read(source) {
      const nodes = source.file.items(source.node);
      if (nodes === undefined) {
        const advice = "write each of it behind a dash, or all of it in brackets";
        return source.refuse("value-malformed", `${source.name} is not ${notation}; ${advice}`);
      }
      if (nodes.length < least) source.refuse("value-missing", `${source.name} is empty; write ${notation}`);
      return nodes.map((node, index) => item.read(source.child(String(index + 1), node)));
    },
    write(values) {
      const list = new YAMLSeq();
      list.items = values.map((value) => item.write(value));
      list.flow = flow || values.length === 0;
      return list;
    },
  };
}

/** One key of a map that is read into a field of type `T`. */
export interface Field<T> {
  readonly help: string;
  readonly shape: Shape<NonNullable<T>>;
  /** What it is called in the file; default: the field's name, as `yamlKey` writes it. */
  readonly key?: string;
  /** Set if the key may be left out. */
  readonly optional?: {
    /** What then holds, for people. */
    readonly meaning: string;
    /** The field's value then; without it, the field is left out too. */
    readonly value?: T;
  };
}

export type Fields<T> = { readonly [Name in keyof T]-?: Field<T[Name]> };

export interface MapShape<T> extends Shape<T> {
  readonly keys: readonly KeyDescription[];
}

export function mapOf<T extends object>(fields: Fields<T>): MapShape<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  const keyOf = (name: keyof T & string) => fields[name].key ?? yamlKey(name);
  const keys = names.map(keyOf);
  const readField = <Name extends keyof T>(into: Partial<T>, name: Name, source: Source) => {
    into[name] = fields[name].shape.read(source);
  };
  const descriptions = names.map((name) => ({
    key: keyOf(name),
    help: fields[name].help,
    ifAbsent: fields[name].optional?.meaning,
    description: fields[name].shape.description,
  }));
  return {
    keys: descriptions,
    description: { kind: "map", keys: descriptions },
    read(source) {
      const result: Partial<T> = {};
      const seen = new Set<string>();
      for (const { key: node, value } of entriesOf(source)) {
        const key = source.file.keyText(node);
        const name = names[keys.indexOf(key)];
        if (name === undefined) {
          const hint = didYouMean(key, keys) || `; the keys here are ${keys.join(", ")}`;
          source.file.refuse("key-unknown", node, `unknown key ${quoted(key)}${hint}`);
        }
        if (seen.has(key)) source.file.refuse("key-twice", node, `${key} is given twice; keep one of them`);
        seen.add(key);
        readField(result, name, source.child(key, value, node));
      }
      const missing = descriptions.filter(({ key, ifAbsent }) => !seen.has(key) && ifAbsent === undefined);
      if (missing.length > 0) source.refuse("key-missing", missingKeys(source, missing));
      for (const name of names) {
        const { optional } = fields[name];
        if (!seen.has(keyOf(name)) && optional !== undefined && "value" in optional)
          result[name] = optional.value;
      }
      // Each name of T is in `fields`, and each of those was read, or given its value, or may be left out.
      return result as T;
    },
    write(value) {
      const map = new YAMLMap<Scalar, Node>();
      for (const name of names) {
        const field = value[name];
        if (field === undefined || field === null) continue;
        map.items.push(new Pair(new Scalar(keyOf(name)), fields[name].shape.write(field)));
      }
      return map;
    },
  };
}

/** Maps of several forms: the value of the field `tag` says which. */
export function variantsOf<T extends object, Tag extends keyof T & string>(
  tag: Tag,
  forms: {
    readonly [Word in T[Tag] & string]: { help: string; shape: MapShape<Extract<T, Record<Tag, Word>>> };
  },
  key: string = yamlKey(tag),
): Shape<T> {
  const words = Object.keys(forms) as (T[Tag] & string)[];
  // A form reads and writes its own part of the union only; the tag has said that the value is of that part.
  const shapeOf = (word: T[Tag] & string) => forms[word].shape as MapShape<object> as MapShape<T>;
  const described = words.map((word) => ({ word, help: forms[word].help, keys: forms[word].shape.keys }));
  return {
    description: { kind: "variants", key, forms: described },
    read(source) {
      const entry = entriesOf(source).find(({ key: node }) => source.file.keyText(node) === key);
      if (entry === undefined) {
        return source.refuse(
          "key-missing",
          `${key} is missing; write ${key}: and one of ${words.join(", ")}`,
        );
      }
      return shapeOf(readWord(source.child(key, entry.value, entry.key), words)).read(source);
    },
    write: (value) => shapeOf(value[tag] as T[Tag] & string).write(value),
  };
}

/** Something that has to hold between values of one profile. */
export interface Rule<T> {
  /** A sentence that says what to write. */
  readonly text: string;
  /** The keys that lead to the value at fault, if it does not hold. */
  broken(value: T): readonly string[] | undefined;
}

export function withRules<T>(shape: MapShape<T>, rules: readonly Rule<T>[]): MapShape<T> {
  return {
    ...shape,
    read(source) {
      const value = shape.read(source);
      for (const { text, broken } of rules) {
        const path = broken(value);
        if (path !== undefined) source.refuseBelow(path, text);
      }
      return value;
    },
  };
}

function entriesOf(source: Source) {
  const entries = source.file.entries(source.node);
  if (entries !== undefined) return entries;
  return source.refuse("file-shape", `${source.name} holds no map; write its keys as \`key: value\` lines`);
}

function missingKeys(source: Source, missing: readonly KeyDescription[]): string {
  const [{ key, description }] = missing;
  const where = source.path.length === 0 ? "" : ` in ${source.name}`;
  if (missing.length > 1) return `the keys ${missing.map((each) => each.key).join(", ")} are missing${where}`;
  return `${key} is missing${where}; write ${asked(description)}`;
}

/** What to write for a value of this description. */
function asked(description: Description): string {
  if (description.kind === "choice") return `one of ${Object.keys(description.meanings).join(", ")}`;
  if (description.kind === "map") return `a map with ${description.keys.map(({ key }) => key).join(", ")}`;
  if (description.kind === "variants") return `a map with ${description.key}`;
  return description.notation;
}
