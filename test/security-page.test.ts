/** SECURITY.md names a test for each of its promises, and that test exists. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { root } from "./vm/paths.js";

it("every test that SECURITY.md names is there, under that name", () => {
  const page = readFileSync(join(root, "SECURITY.md"), "utf8").replaceAll(/\s+/g, " ");
  const citations = [...page.matchAll(/`([\w./-]+\.test\.ts)`: ((?:"[^"]+"(?:, )?)+)/g)];
  assert.ok(citations.length > 20);
  for (const [, path, names] of citations) {
    const source = readFileSync(join(root, path), "utf8");
    for (const [, name] of names.matchAll(/"([^"]+)"/g)) {
      assert.ok(source.includes(`"${name}"`), `${path} has no test ${JSON.stringify(name)}`);
    }
  }
});
