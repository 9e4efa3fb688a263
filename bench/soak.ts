/**
 * `node build/bench/soak.js`: lets a device work for a long time under a mixed load, and says whether anything of it grows.
 * One JSON object a line: a sample each, and the verdict at the end.
 */
import { parseArgs } from "node:util";
import { runSoak } from "./soak-run.js";

const USAGE = `node build/bench/soak.js [options]
  --minutes N   how long (default 30)
  --load N      share of one processor that the device and its load may use together (default 0.3)
  --every N     seconds between two samples (default 5)
  --quiet N     seconds between two moments at which nothing is under way (default 30)
  --reboot N    seconds between two reconnects of a VM (default 20)
  --seed N      which sequence of events it is (default: by the clock)

Exit status: 1 if something grows, if a byte came that was not due, or if anything else went wrong.`;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "30" },
    load: { type: "string", default: "0.3" },
    every: { type: "string", default: "5" },
    quiet: { type: "string", default: "30" },
    reboot: { type: "string", default: "20" },
    seed: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

if (values.help) {
  console.log(USAGE);
} else {
  const { status } = await runSoak({
    minutes: Number(values.minutes),
    load: Number(values.load),
    sampleMs: 1000 * Number(values.every),
    quietMs: 1000 * Number(values.quiet),
    rebootMs: 1000 * Number(values.reboot),
    seed: values.seed === undefined ? Date.now() % 2 ** 31 : Number(values.seed),
    onLine: (line) => console.log(JSON.stringify(line)),
  });
  process.exitCode = status;
}
