/** Pages that promise something name a test for each promise, and that test exists. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { root } from "./vm/paths.js";

/** Each with the least number of citations that it has: a page whose form changed would cite none that is found. */
const PAGES = [
  ["SECURITY.md", 20],
  ["docs/bad-days.md", 12],
  ["docs/comparison.md", 40],
] as const;

describe("every test that is cited is there, under that name:", () => {
  for (const [page, least] of PAGES) {
    it(page, () => {
      const text = readFileSync(join(root, page), "utf8").replaceAll(/\s+/g, " ");
      const citations = [...text.matchAll(/`([\w./-]+\.ts)`: ((?:"[^"]+"(?:, )?)+)/g)];
      assert.ok(citations.length >= least, `only ${citations.length} citations`);
      // A file without a name beside it proves nothing.
      assert.equal(citations.length, [...text.matchAll(/`[\w./-]+\.ts`/g)].length, "a file is cited alone");
      for (const [, path, names] of citations) {
        const source = readFileSync(join(root, path), "utf8");
        for (const [, name] of names.matchAll(/"([^"]+)"/g)) {
          assert.ok(source.includes(`"${name}"`), `${path} has no test ${JSON.stringify(name)}`);
        }
      }
    });
  }
});
