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
 * Must not know what the keys mean.
 */

import { readFileSync } from "node:fs";
import { ConfigError } from "../config/errors.js";
import { quoted } from "../config/quoted.js";
import { didYouMean } from "../config/suggest.js";
import { YamlFile } from "../config/yaml-file.js";
import {
  isRepeatable,
  readSettingKey,
  type VmSettings,
  VmSettingsBuilder,
} from "../device/config/settings.js";

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
  const file = new YamlFile(text, fileName);
  return vmList(file).map((node) => readVm(file, node));
}

/** The items of the one top-level key. */
function vmList(file: YamlFile): readonly unknown[] {
  const entries = file.entries(file.root);
  if (entries === undefined) file.refuse("file-shape", file.root, `the file holds no map; ${SHAPE}`);
  let list: unknown;
  for (const { key, value } of entries) {
    const name = file.keyText(key);
    if (name !== "vms") {
      const problem = `unknown key ${quoted(name)}${didYouMean(name, ["vms"]) || `; ${SHAPE}`}`;
      file.refuse("key-unknown", key, problem);
    }
    if (list !== undefined) file.refuse("key-twice", key, "vms is given twice; make one list of them");
    list = value ?? key;
  }
  const vms = file.items(list);
  if (vms === undefined) file.refuse("file-shape", list ?? file.root, `vms is not a list; ${SHAPE}`);
  if (vms.length === 0) file.refuse("file-shape", list, `the list of vms is empty; ${SHAPE}`);
  return vms;
}

function readVm(file: YamlFile, node: unknown): VmSettings {
  const entries = file.entries(node);
  if (entries === undefined) {
    file.refuse("file-shape", node, "this VM is not a map; write its settings as `key: value` lines");
  }
  const settings = new VmSettingsBuilder(file.placeOf(node));
  for (const { key, value } of entries) {
    const name = file.keyText(key);
    const keyPlace = file.placeOf(key);
    const settingKey = readSettingKey(name, keyPlace);
    const several = isRepeatable(settingKey) ? file.items(value) : undefined;
    if (several !== undefined) {
      for (const item of several) {
        const itemPlace = file.placeOf(item);
        settings.add(settingKey, itemPlace, {
          text: valueText(file, name, item, itemPlace),
          place: itemPlace,
        });
      }
      continue;
    }
    const place = value === null ? keyPlace : file.placeOf(value);
    settings.add(settingKey, keyPlace, { text: valueText(file, name, value, place), place });
  }
  return settings;
}

function valueText(file: YamlFile, name: string, node: unknown, place: string): string {
  const text = file.text(node);
  if (text !== undefined) return text;
  const isMore = file.items(node) !== undefined || file.entries(node) !== undefined;
  const asks = name === "groups" ? "write the names as group1+group2" : "write one value behind the colon";
  const problem = `${name} has ${isMore ? "more than one value" : "no value"}; ${asks}`;
  throw new ConfigError("value-missing", place, problem);
}
