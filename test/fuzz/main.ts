/**
 * `npm run fuzz -- TARGET|all [--seconds N] [--seed S] [--keep]`, `--replay FILE`, `--list`. Fuzzes in a child process,
 * whose last input is known even if it dies or hangs; writes what failed to a file, says how to run it again, and ends
 * with status 1.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { readCorpus, writeCorpus } from "./corpus.js";
import { errorOf } from "./engine.js";
import { fuzzInChild, saveFailure } from "./guarded.js";
import type { Target } from "./target.js";
import { TARGETS } from "./targets/index.js";

const USAGE = `usage: npm run fuzz -- TARGET [--seconds N] [--seed S] [--keep]
       npm run fuzz -- TARGET --replay FILE
       npm run fuzz -- --list

TARGET is one of ${TARGETS.map(({ name }) => name).join(", ")}, or all: then the time is split over them.
  --seconds N    how long, all in all (60)
  --seed S       of the random numbers; printed, and chosen by the clock if it is not given
  --keep         keeps inputs that run something new in test/fuzz/corpus/
  --replay FILE  runs the input in FILE once`;

function fail(message: string): never {
  console.error(`${message}\n${USAGE}`);
  process.exit(2);
}

function numberOf(text: string | undefined, fallback: number, option: string): number {
  const value = text === undefined ? fallback : Number(text);
  if (!Number.isSafeInteger(value) || value < 0) fail(`--${option}: "${text}" is not a whole number`);
  return value;
}

function targetsOf(name: string | undefined): readonly Target[] {
  if (name === "all") return TARGETS;
  const target = TARGETS.find((each) => each.name === name);
  return target === undefined ? fail(`no target "${name ?? ""}"`) : [target];
}

function replay(target: Target, file: string): void {
  const error = errorOf(target, new Uint8Array(readFileSync(file)));
  console.log(error === undefined ? "nothing is wrong with that input" : error.stack);
  if (error !== undefined) process.exitCode = 1;
}

/** True if nothing was found. */
async function fuzz(target: Target, seconds: number, seed: number, keep: boolean): Promise<boolean> {
  const corpus = readCorpus(target.name);
  const startMs = performance.now();
  const found = await fuzzInChild(target.name, { seconds, seed });
  console.log(
    `${target.name}: ${found.runs} inputs in ${((performance.now() - startMs) / 1000).toFixed(1)} s, seed ${seed}, ${found.places} characters of source run, ` +
      `corpus of ${corpus.length + target.seeds.length}`,
  );
  if (keep) {
    const kept = writeCorpus(target, [...corpus, ...found.corpus]);
    console.log(`${target.name}: the corpus has ${kept} inputs now`);
  }
  if (found.failure === undefined) return true;
  const file = saveFailure(target.name, found.failure.input);
  console.error(`${target.name}: ${found.failure.what}`);
  console.error(`The input is in ${file}. Again: npm run fuzz -- ${target.name} --replay ${file}`);
  // Where the folder is gone afterwards, the output is all that is left of it.
  console.error(
    `As a line of test/fuzz/corpus/${target.name}.hex: ${Buffer.from(found.failure.input).toString("hex")}`,
  );
  return false;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: "string" },
    seed: { type: "string" },
    keep: { type: "boolean", default: false },
    replay: { type: "string" },
    list: { type: "boolean", default: false },
  },
});

if (values.list) {
  for (const { name, about } of TARGETS) console.log(`${name.padEnd(10)} ${about}`);
} else if (values.replay !== undefined) {
  const [target, another] = targetsOf(positionals[0]);
  if (another !== undefined) fail("--replay: name the target");
  replay(target, values.replay);
} else {
  const chosen = targetsOf(positionals[0]);
  const seconds = Math.max(1, Math.floor(numberOf(values.seconds, 60, "seconds") / chosen.length));
  const seed = numberOf(values.seed, Date.now() % 1_000_000, "seed");
  for (const target of chosen) if (!(await fuzz(target, seconds, seed, values.keep))) process.exitCode = 1;
}
