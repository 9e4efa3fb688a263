/**
 * A logger for what outsiders can provoke at will: at most so many records a second of each event, so that neither a
 * guest nor a host program can flood the log, and a flood of one event hides no other. The next record that passes
 * says in its field `suppressed` how many of its event were left out before it.
 * Must not know which events those are.
 */

import type { EventId } from "./events.js";
import type { Logger } from "./logger.js";

const SECOND_MS = 1000;

interface Count {
  /** When the current second of this event began, on the clock of `now`. */
  since: number;
  passed: number;
  suppressed: number;
}

/** `now` is a monotonic clock in milliseconds; a test gives its own. */
export function limited(log: Logger, perSecond: number, now: () => number = () => performance.now()): Logger {
  return limitedBy(log, perSecond, now, new Map());
}

function limitedBy(log: Logger, perSecond: number, now: () => number, counts: Map<EventId, Count>): Logger {
  return {
    log(entry) {
      const count = counts.get(entry.event) ?? { since: now(), passed: 0, suppressed: 0 };
      counts.set(entry.event, count);
      const time = now();
      if (time - count.since >= SECOND_MS) {
        count.since = time;
        count.passed = 0;
      }
      if (count.passed >= perSecond) {
        count.suppressed++;
        return;
      }
      count.passed++;
      const { suppressed } = count;
      count.suppressed = 0;
      log.log(suppressed === 0 ? entry : { ...entry, fields: { ...entry.fields, suppressed } });
    },
    // One allowance for all: a child is another name, not another source.
    child: (context) => limitedBy(log.child(context), perSecond, now, counts),
    passes: (level) => log.passes(level),
  };
}
