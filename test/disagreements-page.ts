/** What docs/disagreements.md says: the corpus of disagreements, run and printed. Must not know where the file is. */
import type { Disagreement, Finding, PlayedCell } from "../src/compat/disagreements/index.js";
import { DISAGREEMENTS } from "../src/compat/disagreements/index.js";

const HEAD = `# Disagreements

Every place that is known where a guest, a VMM and a device are each right by their own reading of a bit, a flag or an
order, and wrong together. Each had been noted from sources, and each was then run: the parties are played as their
profiles say, on real rings in shared memory, and what came out is what this page states. Where a run contradicts the
reading, the run wins, and the case says what the reading had missed.

The cells are those of \`bit33 compat\`; \`bit33 compat --explain <cell>\` tells the story of one. A name with a \`+\` is a
profile that was changed for the question, so its evidence is never better than \`derived\`.

This page is made by \`npm run docs\`, which runs every case (\`src/compat/disagreements/\`).`;

export async function disagreementsPage(): Promise<string> {
  const sections: string[] = [];
  const index: string[] = [];
  const standings: Standing[] = [];
  for (const disagreement of DISAGREEMENTS) {
    const finding = await disagreement.run();
    standings.push(standingOf(disagreement, finding));
    index.push(indexRow(disagreement, finding));
    sections.push(section(disagreement, finding));
  }
  const count = (wanted: Standing): number => standings.filter((standing) => standing === wanted).length;
  const counts = `${standings.length} cases. In ${count("confirmed")} the run says what the reading said, in ${count("moot")} the reading is right and comes to nothing for a vsock device, and in ${count("contradicted")} the run contradicts it.`;
  const table = ["| case | reading | running | |", "|---|---|---|---|", ...index].join("\n");
  return `${[HEAD, counts, table, ...sections].join("\n\n")}\n`;
}

/** How a run leaves the reading. */
type Standing = "confirmed" | "moot" | "contradicted";

const RUNNING: Readonly<Record<Standing, string>> = {
  confirmed: "**Running** says the same",
  moot: "**Running**: the reading is right, and comes to nothing here",
  contradicted: "**Running contradicts it**",
};
const MARKS: Readonly<Record<Standing, string>> = {
  confirmed: "",
  moot: "comes to nothing",
  contradicted: "**contradicted**",
};

function standingOf({ expected, moot }: Disagreement, { outcome }: Finding): Standing {
  if (outcome === expected) return "confirmed";
  return outcome === moot ? "moot" : "contradicted";
}

function indexRow(disagreement: Disagreement, finding: Finding): string {
  const { id, expected } = disagreement;
  const mark = MARKS[standingOf(disagreement, finding)];
  return `| [${id}](#${id}) | ${expected} | ${finding.outcome} | ${mark} |`;
}

function section(disagreement: Disagreement, finding: Finding): string {
  const { id, title, question, sources, reading, expected, lesson } = disagreement;
  const { outcome, facts, cells, derived = [] } = finding;
  const running = RUNNING[standingOf(disagreement, finding)];
  return [
    `## ${id}`,
    `**${title}.** ${question}`,
    `**Reading**: ${reading} (\`${expected}\`)`,
    `${running}: \`${outcome}\`.`,
    list(facts),
    ...(cells.length === 0 ? [] : [cellTable(cells)]),
    `**So**: ${lesson}`,
    ...(derived.length === 0 ? [] : [`Only read, not run:\n\n${list(derived)}`]),
    `Sources: ${sources.join("; ")}.`,
  ].join("\n\n");
}

function cellTable(cells: readonly PlayedCell[]): string {
  const rows = cells.map(
    ({ name, verdict, reason, evidence }) => `| \`${name}\` | ${verdict ?? "–"} | ${reason} | ${evidence} |`,
  );
  return ["| cell | verdict | reason | evidence |", "|---|---|---|---|", ...rows].join("\n");
}

function list(sentences: readonly string[]): string {
  return sentences.map((sentence) => `- ${sentence}`).join("\n");
}
