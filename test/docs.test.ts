/** Pages of docs/ that are made from the sources say what the sources say. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { PAGES } from "./pages.js";
import { root } from "./vm/paths.js";

for (const { path, text } of PAGES) {
  it(`${path} is what the sources say`, async () => {
    const written = readFileSync(join(root, path), "utf8");
    assert.ok(written === (await text()), `${path} is out of date: run \`npm run docs\` and commit it`);
  });
}
