/** Every input that the fuzzer ever kept runs as an ordinary test. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readCorpus } from "./corpus.js";
import { TARGETS } from "./targets/index.js";

describe("the fuzzer's corpus", () => {
  for (const target of TARGETS) {
    it(`of ${target.name} finds nothing wrong: ${target.about}`, () => {
      const corpus = readCorpus(target.name);
      assert.ok(corpus.length > 10, "the corpus is missing");
      for (const input of [...target.seeds, ...corpus]) {
        try {
          target.run(input);
        } catch (error) {
          const message = `npm run fuzz -- ${target.name} --replay: ${Buffer.from(input).toString("hex")}`;
          throw new Error(message, { cause: error });
        }
      }
    });
  }
});
