/** The process that fuzzes (`guarded.ts`): `worker.js TARGETS NAME SECONDS SEED LATEST`. */
import { ftruncateSync, openSync, writeSync } from "node:fs";
import { isOurs, readCorpus } from "./corpus.js";
import { Fuzzer } from "./engine.js";
import type { ChildReport } from "./guarded.js";
import type { Target } from "./target.js";

const [, , targets, name, seconds, seed, latest] = process.argv;
const { TARGETS } = (await import(targets)) as { TARGETS: readonly Target[] };
const target = TARGETS.find((each) => each.name === name);
if (target === undefined) throw new Error(`no target ${name}`);

const fd = openSync(latest, "r+");
/** One byte in front, so that an empty input is told from none. */
const record = Buffer.alloc(1 + target.mostBytes);

const result = new Fuzzer(target, {
  corpus: readCorpus(name),
  ms: Number(seconds) * 1000,
  seed: Number(seed),
  isOurs: (url) => isOurs(url) || url === targets,
  onInput: (input) => {
    record.set(input, 1);
    ftruncateSync(fd, 1 + input.length);
    writeSync(fd, record, 0, 1 + input.length, 0);
  },
}).fuzz();

const hex = (input: Uint8Array): string => Buffer.from(input).toString("hex");
const { failure } = result;
const report: ChildReport = {
  runs: result.runs,
  places: result.places,
  corpus: result.corpus.map(hex),
  failure:
    failure === undefined
      ? undefined
      : { input: hex(failure.input), what: failure.error.stack ?? failure.error.message },
};
process.send?.(report, () => process.disconnect());
