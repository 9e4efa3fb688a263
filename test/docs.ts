/** `npm run docs`: writes those pages of docs/ that are made from the sources. Must not know what they say. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { logEventsPage } from "./log-events-page.js";
import { root } from "./vm/paths.js";

writeFileSync(join(root, "docs/log-events.md"), logEventsPage());
