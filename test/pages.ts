/** The files that are made from the sources, most of them pages of docs/, each with the function that makes it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CONFORMANCE_PAGE, conformancePage } from "./conformance-page.js";
import { disagreementsPage } from "./disagreements-page.js";
import { dissector } from "./dissector-page.js";
import { lintsPage } from "./lints-page.js";
import { logEventsPage } from "./log-events-page.js";
import { matrixPage } from "./matrix-page.js";
import { metricsDocument } from "./metrics-page.js";
import { MUTANTS_PAGE, mutantsPage } from "./mutants-page.js";
import { observePage } from "./observe-page.js";
import { profilesPage } from "./profiles-page.js";
import { verdictsPage } from "./verdicts-page.js";
import { root } from "./vm/paths.js";

export interface Page {
  /** Below the root. */
  readonly path: string;
  readonly text: () => string | Promise<string>;
}

export const EXAMPLE_PROFILE = "docs/examples/my-vmm.yaml";

export const PAGES: readonly Page[] = [
  { path: CONFORMANCE_PAGE, text: conformancePage },
  { path: "docs/disagreements.md", text: disagreementsPage },
  { path: "docs/lints.md", text: lintsPage },
  { path: "docs/log-events.md", text: logEventsPage },
  { path: "docs/matrix.md", text: matrixPage },
  { path: "docs/metrics.md", text: metricsDocument },
  { path: MUTANTS_PAGE, text: mutantsPage },
  { path: "docs/observe.md", text: observePage },
  {
    path: "docs/profiles.md",
    text: () => profilesPage(readFileSync(join(root, EXAMPLE_PROFILE), "utf8")),
  },
  { path: "docs/verdicts.md", text: verdictsPage },
  {
    path: "wireshark/vhost-user.lua",
    text: () => dissector(readFileSync(join(root, "wireshark/vhost-user.lua"), "utf8")),
  },
];
