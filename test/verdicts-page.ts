/** What docs/verdicts.md says: the table of verdicts, printed. Must not know where the file is. */
import { VERDICTS } from "../src/compat/record.js";
import { VERDICT_TEXTS } from "../src/compat/verdicts.js";

const HEAD = `# Verdicts

Each combination of guest, VMM and device that \`bit33 compat\` runs gets one of these verdicts, best first. A verdict is
found by what happened in the run, never looked up: data is compared at both ends, and every access of the device is
checked against what the guest shared and mapped at that moment. If several hold, the worst is given.

An id is a promise: it is never renamed, so \`--fail-on\` and scripts can rely on it; a new meaning gets a new id. A change
is worse (\`--before\`, \`--after\`, exit status 1) if the verdict moves down in this list. A combination that makes no
sense, such as a guest that needs a vIOMMU on a VMM without one, has no verdict but a reason.

Next to the verdict stands the evidence, the weakest of the three profiles': \`executed\` (\`*\`) if each of the three was
checked against the real program, \`derived\` (no mark) if one of them is as its source says, \`proposed\` (\`?\`) if one of
them is a proposal that nobody has built.

This page is made from \`src/compat/verdicts.ts\` by \`npm run docs\`.`;

export function verdictsPage(): string {
  const index = VERDICTS.map((id) => `| [${id}](#${id}) | ${VERDICT_TEXTS[id].word} |`);
  const sections = VERDICTS.map((id) => {
    const { meaning, found, todo } = VERDICT_TEXTS[id];
    return `## ${id}\n\n${meaning}\n\n**How it is found.** ${found}\n\n**What to do.** ${todo}`;
  });
  return `${[HEAD, ["| verdict | in the table |", "|---|---|", ...index].join("\n"), ...sections].join("\n\n")}\n`;
}
