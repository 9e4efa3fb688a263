/** What docs/lints.md says: every lint of `bit33 inspect`, printed. Must not know where the file is. */
import { LINTS } from "../src/inspect/lints/index.js";

const HEAD = `# Lints

What \`bit33 inspect\` finds in a session. Each finding names its lint; an id is a promise: it is never renamed and never
changes its severity, and a new meaning gets a new id. \`--fail-on warning\` makes the exit status say whether one was
found.

- \`error\`: against the rule, and something breaks or is lost.
- \`warning\`: against the rule, or known to break some peers.
- \`info\`: legal, and worth knowing when something else does not work.

A lint reports once for each thing it is about (a bit, a ring, a region) in a session, and counts. What was not seen is
not held against anybody: of a session that is followed from its middle on, or with a gap, only what its own messages
show is said.

This page is made from the records in \`src/inspect/lints/\` by \`npm run docs\`.`;

export function lintsPage(): string {
  const lints = Object.entries(LINTS);
  const index = lints.map(([id, { severity, title }]) => `| [${id}](#${id}) | ${severity} | ${title} |`);
  const sections = lints.map(([id, { severity, title, rule, why, todo }]) =>
    [
      `## ${id}`,
      `${title}. Severity \`${severity}\`.`,
      why,
      `**What to do.** ${todo}`,
      `**Rule.** ${rule}.`,
    ].join("\n\n"),
  );
  return `${[HEAD, ["| lint | severity | what is wrong |", "|---|---|---|", ...index].join("\n"), ...sections].join("\n\n")}\n`;
}
