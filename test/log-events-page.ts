/** What docs/log-events.md says: the table of log events, printed. Must not know where the file is. */
import { EVENTS } from "../src/log/events.js";

const HEAD = `# Log events

\`bit33 serve\` writes one line a record to standard error: text by default, one JSON object with \`--log-format json\`.
Each record names its event. An id is a promise: it is never renamed and never changes its level, so it can be filtered
and alerted on; a new meaning gets a new id. \`--log-level\` chooses the least urgent level that is written (\`info\` by
default).

This page is made from the table in \`src/log/events.ts\` by \`npm run docs\`.`;

export function logEventsPage(): string {
  const events = Object.entries(EVENTS);
  const index = events.map(([id, { level }]) => `| [${id}](#${id}) | ${level} |`);
  const paragraphs = events.map(([id, { level, text }]) => `## ${id}\n\nLevel \`${level}\`. ${text}`);
  return `${[HEAD, ["| event | level |", "|---|---|", ...index].join("\n"), ...paragraphs].join("\n\n")}\n`;
}
