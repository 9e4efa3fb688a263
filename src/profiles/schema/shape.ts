/**
 * What a schema is made of: a shape says how one value is read, written and described. The shapes are in scalars.ts,
 * feature-words.ts and collections.ts; the schemas made of them in guest-schema.ts, vmm-schema.ts and device-schema.ts.
 * Must not know any of them.
 */
import type { Node } from "yaml";
import { ConfigError, type ConfigErrorCode } from "../../config/errors.js";
import type { YamlFile } from "../../config/yaml-file.js";

export interface Shape<T> {
  readonly description: Description;
  /** Throws a ConfigError with the place of the first mistake. */
  read(source: Source): T;
  write(value: T): Node;
}

/** What can be said of a shape, for documentation and for messages. */
export type Description =
  /** How such a value is written, as "a name" in "write a name". */
  | { readonly kind: "value"; readonly notation: string }
  /** One of some words, and what each of them means. */
  | { readonly kind: "choice"; readonly meanings: Readonly<Record<string, string>> }
  | { readonly kind: "list"; readonly notation: string; readonly item: Description }
  | { readonly kind: "map"; readonly keys: readonly KeyDescription[] }
  /** Maps of several forms, told apart by the value of one of their keys. */
  | { readonly kind: "variants"; readonly key: string; readonly forms: readonly FormDescription[] };

export interface KeyDescription {
  readonly key: string;
  readonly help: string;
  /** What holds if the key is left out; undefined if it must not be. */
  readonly ifAbsent: string | undefined;
  readonly description: Description;
}

export interface FormDescription {
  readonly word: string;
  readonly help: string;
  readonly keys: readonly KeyDescription[];
}

/** A value in a file: the node that it is read from, and the keys that lead to it. */
export class Source {
  /** @param places of every value that was read so far, by path: rules between values speak of them later */
  constructor(
    readonly file: YamlFile,
    readonly node: unknown,
    readonly path: readonly string[] = [],
    readonly places = new Map<string, string>(),
    /** Where to point at if there is no value at all: at the key. */
    readonly fallback: unknown = node,
  ) {
    places.set(path.join("."), this.place);
  }

  get place(): string {
    return this.file.placeOf(this.node ?? this.fallback);
  }

  /** How messages call it: the key with those around it, as in `offer.bit-33`. */
  get name(): string {
    return this.path.length === 0 ? "the file" : this.path.join(".");
  }

  child(key: string, node: unknown, keyNode: unknown = node): Source {
    return new Source(this.file, node, [...this.path, key], this.places, keyNode);
  }

  /** The single value as it is written. @param asks what to write instead, if it is none */
  text(asks: string): string {
    const text = this.file.text(this.node);
    if (text !== undefined && text !== "") return text;
    if (this.file.items(this.node) !== undefined) return this.#notSingle("is a list", asks);
    if (this.file.entries(this.node) !== undefined) return this.#notSingle("is a map", asks);
    return this.refuse("value-missing", `${this.name} has no value; write ${asks}`);
  }

  refuse(code: ConfigErrorCode, problem: string): never {
    return this.file.refuse(code, this.node ?? this.fallback, problem);
  }

  /** Two values contradict each other: points at the one below `path`, or at what is nearest around it. */
  refuseBelow(path: readonly string[], problem: string): never {
    for (let length = path.length; length > 0; length--) {
      const place = this.places.get([...this.path, ...path.slice(0, length)].join("."));
      if (place !== undefined) throw new ConfigError("value-conflict", place, problem);
    }
    return this.refuse("value-conflict", problem);
  }

  #notSingle(what: string, asks: string): never {
    return this.refuse("value-malformed", `${this.name} ${what}; write ${asks}`);
  }
}

/** `maskedByDevice` is written `masked-by-device`, and `bit33` `bit-33`. */
export function yamlKey(field: string): string {
  return field.replace(/[A-Z]|(?<=[a-z])\d+/g, (part) => `-${part.toLowerCase()}`);
}
