/**
 * `node build/test/conformance/mutants/survey.js [NAME…]`: runs every case against each mutant, or those named, and prints
 * which fail. For whoever adds a mutant, or wonders what a case is good for; takes a few minutes a mutant.
 */
import { MUTANTS } from "./index.js";
import { copyBuild } from "./mutant.js";
import { tryBuild } from "./try-build.js";

const names = process.argv.slice(2);
const unknown = names.filter((name) => !MUTANTS.some((mutant) => mutant.name === name));
if (unknown.length > 0) {
  console.error(
    `there is no mutant ${unknown.join(", ")}; there are ${MUTANTS.map(({ name }) => name).join(", ")}`,
  );
  process.exit(2);
}
for (const mutant of MUTANTS.filter(({ name }) => names.length === 0 || names.includes(name))) {
  const copy = copyBuild(mutant);
  try {
    const failed = (await tryBuild(copy)).filter(({ status }) => status === "failed");
    console.log(`${mutant.name}: ${failed.length === 0 ? "nothing fails" : ""}`);
    for (const { id, detail } of failed) console.log(`  ${id}: ${detail}`);
  } finally {
    copy.remove();
  }
}
