/**
 * docs/conformance/mutants.md: each deliberate fault of this project's device with the cases that notice it, which
 * conformance/mutants/mutants.test.ts tries.
 */
import { MUTANTS } from "./conformance/mutants/index.js";

export const MUTANTS_PAGE = "docs/conformance/mutants.md";

export function mutantsPage(): string {
  return [
    "# What the conformance kit notices",
    "",
    "Each line is a device with one fault: `bit33 serve` of a copy of the build in which one place was changed. Each of the cases",
    "behind it fails with that device, which otherwise still works (`session.works` passes), and passes without the fault.",
    "`test/conformance/mutants/` has the faults as data; `npm test` tries them all, in two to three minutes.",
    "",
    "    node --test build/test/conformance/mutants/           # what npm test does",
    "    node build/test/conformance/mutants/survey.js NAME    # every case against one of them",
    "",
    `| ${MUTANTS.length} devices that … | are noticed by |`,
    "|---|---|",
    ...MUTANTS.map(({ name, fault, cases }) => `| ${fault} (${name}) | ${cases.join(", ")} |`),
    "",
  ].join("\n");
}
