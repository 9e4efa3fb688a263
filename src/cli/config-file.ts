/**
 * The notation of `--config`: a YAML file in vhost-device-vsock's shape, read so that every value keeps its
 * line and column.
 *
 *   vms:
 *     - guest_cid: 3
 *       socket: /run/vm3.sock
 *       uds_path: /run/vm3.vsock
 *       groups: group1+groupA
 *
 * Must not know what the keys mean. Values are taken as they are written, not as YAML types them, so that
 * `uds_mode: 0660` and `iotlb: on` say what they seem to say.
 */

import { readFileSync } from "node:fs";
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, Scalar, type YAMLMap } from "yaml";
import { ConfigError } from "../config/errors.js";
import { didYouMean } from "../config/suggest.js";
import { readSettingKey, type VmSettings, VmSettingsBuilder } from "../device/config/settings.js";
import { quoted } from "../device/config/values.js";

const SHAPE = "write `vms:` and below it one `- ` item for each VM";

export function readConfigFile(fileName: string): VmSettings[] {
  let text: string;
  try {
    text = readFileSync(fileName, "utf8");
  } catch (cause) {
    const reason = cause instanceof Error && "code" in cause ? cause.code : String(cause);
    const problem = `the file cannot be read (${reason}); check the path that --config was given`;
    throw new ConfigError("file-unreadable", fileName, problem, { cause });
  }
  return parseConfigText(text, fileName);
}

/** @param fileName only for places */
export function parseConfigText(text: string, fileName: string): VmSettings[] {
  return new ConfigFile(text, fileName).vms();
}

/** One file, with what is needed to turn an offset into a place. */
class ConfigFile {
  readonly #lines = new LineCounter();
  readonly #document;

  constructor(
    text: string,
    readonly fileName: string,
  ) {
    // Keys given twice are ours to find: guest_cid and guest-cid are one key.
    const options = { lineCounter: this.#lines, prettyErrors: false, uniqueKeys: false } as const;
    this.#document = parseDocument(text, options);
  }

  vms(): VmSettings[] {
    const [syntaxError] = this.#document.errors;
    if (syntaxError !== undefined) {
      const problem = `this is not valid YAML: ${syntaxError.message}`;
      throw new ConfigError("yaml-syntax", this.#placeAt(syntaxError.pos[0]), problem, {
        cause: syntaxError,
      });
    }
    return this.#vmList().map((node) => this.#vm(node));
  }

  /** The items of the one top-level key. */
  #vmList(): readonly unknown[] {
    const root = this.#resolved(this.#document.contents);
    if (!isMap(root)) this.#refuseShape(root, `the file holds no map; ${SHAPE}`);
    let list: unknown;
    for (const { key, value } of root.items) {
      const name = this.#keyText(key);
      if (name !== "vms") {
        const problem = `unknown key ${quoted(name)}${didYouMean(name, ["vms"]) || `; ${SHAPE}`}`;
        throw new ConfigError("key-unknown", this.#placeOf(key), problem);
      }
      if (list !== undefined) {
        throw new ConfigError("key-twice", this.#placeOf(key), "vms is given twice; make one list of them");
      }
      list = value ?? key;
    }
    const vms = this.#resolved(list);
    if (!isSeq(vms)) this.#refuseShape(list ?? root, `vms is not a list; ${SHAPE}`);
    if (vms.items.length === 0) this.#refuseShape(vms, `the list of vms is empty; ${SHAPE}`);
    return vms.items;
  }

  #vm(node: unknown): VmSettings {
    const map = this.#resolved(node);
    if (!isMap(map))
      this.#refuseShape(node, "this VM is not a map; write its settings as `key: value` lines");
    const settings = new VmSettingsBuilder(this.#placeOf(node));
    for (const { key, value } of (map as YAMLMap<unknown, unknown>).items) {
      const name = this.#keyText(key);
      const keyPlace = this.#placeOf(key);
      const settingKey = readSettingKey(name, keyPlace);
      const place = value === null ? keyPlace : this.#placeOf(value);
      settings.add(settingKey, keyPlace, { text: this.#valueText(name, value, place), place });
    }
    return settings;
  }

  #keyText(node: unknown): string {
    const key = this.#resolved(node);
    if (!isScalar(key)) this.#refuseShape(node, "this key is not a plain word");
    return scalarText(key);
  }

  #valueText(name: string, node: unknown, place: string): string {
    const value = this.#resolved(node);
    if (isScalar(value) && value.value !== null) return scalarText(value);
    const asks = name === "groups" ? "write the names as group1+group2" : "write one value behind the colon";
    const problem = `${name} has ${isSeq(value) || isMap(value) ? "more than one value" : "no value"}; ${asks}`;
    throw new ConfigError("value-missing", place, problem);
  }

  /** The node itself, or what an alias stands for. */
  #resolved(node: unknown): unknown {
    if (!isAlias(node)) return node;
    const target = node.resolve(this.#document);
    if (target !== undefined) return target;
    const problem = `nothing before this is marked &${node.source}, so *${node.source} stands for nothing`;
    throw new ConfigError("yaml-syntax", this.#placeOf(node), problem);
  }

  #refuseShape(node: unknown, problem: string): never {
    throw new ConfigError("file-shape", this.#placeOf(node), problem);
  }

  #placeOf(node: unknown): string {
    const range = isAlias(node) || isScalar(node) || isMap(node) || isSeq(node) ? node.range : undefined;
    return this.#placeAt(range?.[0] ?? 0);
  }

  /** An empty file has no lines to count; its one place is the beginning. */
  #placeAt(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.fileName}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  }
}

/** What stands in the file, without its quotes: `0660` stays `0660`, and is not the number 660. */
function scalarText(scalar: Scalar): string {
  const isPlain = scalar.type === Scalar.PLAIN || scalar.type === undefined;
  return isPlain && scalar.source !== undefined ? scalar.source : String(scalar.value);
}
