/** Pages of docs/ that are made from the sources say what the sources say. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { logEventsPage } from "./log-events-page.js";
import { root } from "./vm/paths.js";

it("docs/log-events.md is what the table of events says", () => {
  const written = readFileSync(join(root, "docs/log-events.md"), "utf8");
  assert.ok(
    written === logEventsPage(),
    "docs/log-events.md is out of date: run `npm run docs` and commit it",
  );
});
