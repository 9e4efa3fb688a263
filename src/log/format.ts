/**
 * The two looks of a log record: a line for people, a JSON object for programs. Both are one line without
 * its newline, whatever the record holds: part of it may come from a guest or a file name.
 * Must not know where the line goes (output.ts).
 */

import { oneLine } from "./one-line.js";
import type { FieldValue, LogRecord } from "./record.js";

export const LOG_FORMATS = ["text", "json"] as const;

export type LogFormat = (typeof LOG_FORMATS)[number];

/** The record's own keys in the JSON form, in this order; a field of that name gets a `_` behind it. */
const OWN_KEYS: readonly string[] = ["time", "level", "event", "vm", "message"];

export function formatRecord(format: LogFormat, record: LogRecord): string {
  return format === "json" ? formatJson(record) : formatText(record);
}

/** `2026-11-22T10:00:00.000Z info vm=3 translation-mode: off, because ... evidence=silence` */
export function formatText(record: LogRecord): string {
  const vm = record.vm === undefined ? "" : ` vm=${record.vm}`;
  const fields = Object.entries(record.fields ?? {}).map(([name, value]) => ` ${name}=${textValue(value)}`);
  return oneLine(
    `${timestamp(record.time)} ${record.level}${vm} ${record.event}: ${record.message}${fields.join("")}`,
  );
}

/** `{"time":"2026-...Z","level":"info","event":"listening","vm":3,"message":"...","socket":"/run/vm3.sock"}` */
export function formatJson(record: LogRecord): string {
  const flat: [string, FieldValue][] = [
    ["time", timestamp(record.time)],
    ["level", record.level],
    ["event", record.event],
  ];
  if (record.vm !== undefined) flat.push(["vm", record.vm]);
  flat.push(["message", record.message]);
  for (const [name, value] of Object.entries(record.fields ?? {})) {
    flat.push([OWN_KEYS.includes(name) ? `${name}_` : name, value]);
  }
  return JSON.stringify(Object.fromEntries(flat));
}

function timestamp(timeMs: number): string {
  return new Date(timeMs).toISOString();
}

/** A bare word stays bare; anything in which a reader could lose the value's end is quoted. */
function textValue(value: FieldValue): string {
  return typeof value === "string" && !/^[^\s"=]+$/u.test(value) ? JSON.stringify(value) : String(value);
}
