/**
 * A YAML file whose every value knows its line and column. Values are taken as they are written, not as YAML types
 * them, so that `0660` and `on` say what they seem to say; an alias is what it stands for. A key given twice is the
 * reader's to find, since only the reader knows which spellings are one key.
 *
 * Must not know what the keys mean.
 */
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, Scalar, type YAMLMap } from "yaml";
import { ConfigError, type ConfigErrorCode } from "./errors.js";

/** A key with its value; a key alone, as in `? key`, has the value null. */
export interface YamlEntry {
  readonly key: unknown;
  readonly value: unknown;
}

/** Errors of which the parser's own words tell nobody what to do, or only a programmer. */
const SAID_BETTER: Readonly<Partial<Record<string, string>>> = {
  BLOCK_AS_IMPLICIT_KEY: "this looks like a key within a value; put a text with a colon in it into quotes",
  MULTIPLE_DOCS: "a second document begins here; keep one to a file",
};

/** One file, with what is needed to turn an offset into a place. Nodes are passed around as `unknown`. */
export class YamlFile {
  readonly #lines = new LineCounter();
  readonly #document;

  /** @param fileName only for places */
  constructor(
    text: string,
    readonly fileName: string,
  ) {
    const options = { lineCounter: this.#lines, prettyErrors: false, uniqueKeys: false } as const;
    this.#document = parseDocument(text, options);
    const [syntaxError] = this.#document.errors;
    if (syntaxError !== undefined) {
      const place = this.#placeAt(syntaxError.pos[0]);
      const problem = `this is not valid YAML: ${SAID_BETTER[syntaxError.code] ?? syntaxError.message}`;
      throw new ConfigError("yaml-syntax", place, problem, { cause: syntaxError });
    }
  }

  /** What the file holds; null if it is empty. */
  get root(): unknown {
    return this.#document.contents;
  }

  /** The keys and values of a map in their order, or undefined if it is none. */
  entries(node: unknown): readonly YamlEntry[] | undefined {
    const map = this.#resolved(node);
    return isMap(map) ? (map as YAMLMap<unknown, unknown>).items : undefined;
  }

  /** The items of a list, or undefined if it is none. */
  items(node: unknown): readonly unknown[] | undefined {
    const list = this.#resolved(node);
    return isSeq(list) ? list.items : undefined;
  }

  /** What stands in the file for a single value, without its quotes; undefined for none, for null, a map or a list. */
  text(node: unknown): string | undefined {
    const value = this.#resolved(node);
    return isScalar(value) && value.value !== null ? scalarText(value) : undefined;
  }

  keyText(node: unknown): string {
    const key = this.#resolved(node);
    if (!isScalar(key)) this.refuse("file-shape", node, "this key is not a plain word");
    return scalarText(key);
  }

  /** `file:line:column` of a node; of the file's beginning for what has no place. */
  placeOf(node: unknown): string {
    const range = isAlias(node) || isScalar(node) || isMap(node) || isSeq(node) ? node.range : undefined;
    return this.#placeAt(range?.[0] ?? 0);
  }

  refuse(code: ConfigErrorCode, node: unknown, problem: string): never {
    throw new ConfigError(code, this.placeOf(node), problem);
  }

  /** The node itself, or what an alias stands for. */
  #resolved(node: unknown): unknown {
    if (!isAlias(node)) return node;
    const target = node.resolve(this.#document);
    if (target !== undefined) return target;
    const problem = `nothing before this is marked &${node.source}, so *${node.source} stands for nothing`;
    return this.refuse("yaml-syntax", node, problem);
  }

  /** An empty file has no lines to count; its one place is the beginning. */
  #placeAt(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.fileName}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  }
}

/** Without its quotes: `0660` stays `0660`, and is not the number 660. */
function scalarText(scalar: Scalar): string {
  const isPlain = scalar.type === Scalar.PLAIN || scalar.type === undefined;
  return isPlain && scalar.source !== undefined ? scalar.source : String(scalar.value);
}
