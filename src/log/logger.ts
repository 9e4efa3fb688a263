/**
 * The logger that every part of the program gets handed: adds the time, the event's level and the VM, drops
 * what is below the chosen level, and passes the record to a sink.
 * Must not know how a record looks (format.ts) or where it goes (output.ts).
 */

import { levelOf } from "./events.js";
import { formatRecord, type LogFormat } from "./format.js";
import { fdOutput, type LineOutput } from "./output.js";
import { type LogEntry, type LogLevel, type LogRecord, passes } from "./record.js";

/** Takes finished records. Must not throw: a log that cannot be written never stops the one who logs. */
export type LogSink = (record: LogRecord) => void;

export interface Logger {
  log(entry: LogEntry): void;
  /** The same logger, whose records are about one VM unless they say otherwise. */
  child(context: { readonly vm: number }): Logger;
  /** Whether a record of this level would pass, for callers whose message is costly to make. */
  passes(level: LogLevel): boolean;
}

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly sink: LogSink;
  /** Milliseconds since 1970; a test gives its own. */
  readonly now?: () => number;
}

export function createLogger({ level: threshold, sink, now = Date.now }: LoggerOptions): Logger {
  const loggerFor = (contextVm: number | undefined): Logger => ({
    log(entry) {
      const level = levelOf(entry.event);
      if (!passes(threshold, level)) return;
      const vm = entry.vm ?? contextVm;
      sink({
        time: entry.time ?? now(),
        level,
        event: entry.event,
        ...(vm === undefined ? {} : { vm }),
        message: entry.message,
        ...(entry.fields === undefined ? {} : { fields: entry.fields }),
      });
    },
    child: (context) => loggerFor(context.vm),
    passes: (level) => passes(threshold, level),
  });
  return loggerFor(undefined);
}

/**
 * A sink that writes each record as one line, by default to standard error. Records that could not be
 * written are counted, and the count is logged as soon as lines get through again.
 */
export function lineSink(format: LogFormat, output: LineOutput = fdOutput()): LogSink {
  let lostCount = 0;
  return (record) => {
    if (lostCount > 0 && output(formatRecord(format, recordsLost(record.time, lostCount)))) lostCount = 0;
    if (!output(formatRecord(format, record))) lostCount++;
  };
}

function recordsLost(time: number, lostCount: number): LogRecord {
  const message = `${lostCount} log records before this one could not be written`;
  return { time, level: levelOf("log-lost"), event: "log-lost", message, fields: { lostCount } };
}

/** A logger that says nothing: for library users who want none, and for tests of other things. */
export const silentLogger: Logger = { log: () => {}, child: () => silentLogger, passes: () => false };
