/**
 * What docs/matrix.md says: the whole matrix, run. One run serves every test of a process that asks for it.
 * Must not know where the file is.
 */
import type { Cell } from "../src/compat/record.js";
import { runMatrix } from "../src/compat/run-matrix.js";
import { countOfCells, table, verdictCounts } from "../src/compat/table.js";
import { builtinProfiles } from "../src/profiles/builtin.js";

const WIDTH = 120;

const HEAD = `# The compatibility matrix

Which guest on which VMM works with which device, as \`bit33 compat\` found by running each combination: rows are VMMs,
columns are devices. The mark behind a verdict is its evidence, the number its reason, beneath the table of the guest.
\`bit33 compat --list\` says what each name stands for, \`bit33 compat --explain GUEST/VMM/DEVICE\` tells how a verdict came
about, [verdicts.md](verdicts.md) explains the verdicts, [disagreements.md](disagreements.md) the known disagreements.

This page is made by \`npm run docs\`; a test runs the matrix again and compares.`;

let run: Promise<readonly Cell[]> | undefined;

/** All built-in profiles against each other; run once a process. */
export function wholeMatrix(): Promise<readonly Cell[]> {
  run ??= runMatrix(builtinProfiles());
  return run;
}

export async function matrixPage(): Promise<string> {
  const cells = await wholeMatrix();
  const { guests } = builtinProfiles();
  const sentenceOf = (name: string) => guests.find((guest) => guest.name === name)?.summary;
  const lines = [
    ...table(cells, { width: WIDTH, sentenceOf }),
    "",
    countOfCells(cells),
    ...verdictCounts(cells, WIDTH),
  ];
  return `${HEAD}\n\n\`\`\`text\n${lines.join("\n")}\n\`\`\`\n`;
}
