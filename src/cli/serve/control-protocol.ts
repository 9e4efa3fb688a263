/**
 * What is said on the control socket: one JSON object a line, in each direction. The client sends one request a line and
 * gets one answer for each, in that order. docs/control.md describes it for people. Must not know who speaks.
 */
import { readSettingKey, VmSettingsBuilder } from "../../device/config/settings.js";
import type { VmReport } from "../../device/metrics/figures.js";

export const COMMANDS = ["list", "add", "remove", "stats"] as const;

/** Keys and texts as in `--vm`; a list of texts for a key that is repeated. */
export type VmTexts = Readonly<Record<string, string | readonly string[]>>;

export type ControlRequest =
  | { readonly command: "list" }
  | { readonly command: "stats"; readonly cid?: number }
  | { readonly command: "remove"; readonly cid: number }
  | { readonly command: "add"; readonly vm: VmTexts };

/** One VM in the answer to `list`. */
export interface ListedVm {
  readonly cid: number;
  readonly socket: string | null;
  readonly udsPath: string;
  readonly iotlb: string;
  readonly maxConnections: number;
}

export type ControlAnswer =
  | { readonly ok: true; readonly vms: readonly ListedVm[] }
  | { readonly ok: true; readonly reports: readonly VmReport[] }
  | { readonly ok: true; readonly vm: ListedVm }
  | { readonly ok: true }
  | ControlFailure;

export interface ControlFailure {
  readonly ok: false;
  /** Stable, for programs. */
  readonly code: string;
  /** What of the request is wrong; empty if the message stands alone. */
  readonly where: string;
  readonly message: string;
}

/** A request has settings and paths in it; nothing that makes sense is longer. */
export const LONGEST_LINE_BYTES = 64 * 1024;

export function failure(code: string, where: string, message: string): ControlFailure {
  return { ok: false, code, where, message };
}

/** A request, or why the line is none. */
export function parseRequest(line: string): ControlRequest | ControlFailure {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    return failure("request-malformed", "", `the line is not JSON: ${String(error)}`);
  }
  if (!isObject(value)) return failure("request-malformed", "", "a request is a JSON object");
  const { command, cid, vm } = value;
  switch (command) {
    case "list":
      return { command };
    case "stats":
      if (cid === undefined) return { command };
      return isCid(cid) ? { command, cid } : notACid(cid);
    case "remove":
      return isCid(cid) ? { command, cid } : notACid(cid);
    case "add":
      return isTexts(vm)
        ? { command, vm }
        : failure("request-malformed", "vm", 'give an object of texts, such as {"guest-cid": "4"}');
    default:
      return failure(
        "command-unknown",
        "command",
        `${JSON.stringify(command)} is not one of ${COMMANDS.join(", ")}`,
      );
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTexts(value: unknown): value is VmTexts {
  const isText = (text: unknown) => typeof text === "string";
  return (
    isObject(value) &&
    Object.values(value).every((texts) => (Array.isArray(texts) ? texts.every(isText) : isText(texts)))
  );
}

function isCid(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value);
}

function notACid(value: unknown): ControlFailure {
  return failure(
    "request-malformed",
    "cid",
    `${JSON.stringify(value) ?? "nothing"} is no CID; give a whole number`,
  );
}

/** The settings of an `add`, each with its place. Throws a ConfigError. */
export function settingsOf(vm: VmTexts): VmSettingsBuilder {
  const settings = new VmSettingsBuilder("add");
  for (const [name, texts] of Object.entries(vm)) {
    const key = readSettingKey(name, `add (${name})`);
    const place = `add (${key})`;
    for (const text of typeof texts === "string" ? [texts] : texts) settings.add(key, place, { text, place });
  }
  return settings;
}
