/**
 * What one log record is, before anybody decides how it looks.
 * Owns the record's shape and the four levels. Must not know where records go or who writes them.
 * The ids that `event` may hold are in events.ts; the two presentations are in format.ts.
 */

import type { EventId } from "./events.js";

/** From the most to the least urgent. A logger set to one level passes it and everything before it. */
export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;

export type LogLevel = (typeof LOG_LEVELS)[number];

export type FieldValue = string | number | boolean | null;

export interface LogRecord {
  /** Milliseconds since 1970, UTC. */
  readonly time: number;
  readonly level: LogLevel;
  readonly event: EventId;
  /** Guest CID of the device that the record is about; absent when it is about the whole program. */
  readonly vm?: number;
  /** One sentence for a human. Whatever a program may want to read goes into `fields` as well. */
  readonly message: string;
  readonly fields?: Readonly<Record<string, FieldValue>>;
}

/**
 * What a caller hands in. The level is not the caller's to choose: an event id has one level, the one
 * documented in its table. A plain object, so a Worker can post it to the thread that owns the logger.
 */
export interface LogEntry {
  readonly event: EventId;
  readonly message: string;
  readonly vm?: number;
  readonly fields?: Readonly<Record<string, FieldValue>>;
  /** When it happened, if not now (a record that crossed from a Worker). */
  readonly time?: number;
}

/** Whether a logger set to `threshold` passes a record of `level`. */
export function passes(threshold: LogLevel, level: LogLevel): boolean {
  return LOG_LEVELS.indexOf(level) <= LOG_LEVELS.indexOf(threshold);
}
