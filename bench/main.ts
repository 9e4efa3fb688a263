/**
 * `npm run bench`: our device, vhost-device-vsock and the floor, measured in turn on this machine. Prints a table, and
 * one JSON object a line for each row.
 */
import { parseArgs } from "node:util";
import { peerCrate, peerProgram, whatPeerIsMissing } from "../test/peers/paths.js";
import { type ContestResult, runContest } from "./contest.js";
import { SIDES, toJson } from "./record.js";
import { ROW_NAMES, type RowName, rowsOf, WORKS } from "./rows.js";
import { toTable } from "./table.js";

const USAGE = `npm run bench -- [options]
  --quick           the light version: under a minute
  --rounds N        how often each side runs each work (default 9; quick: 3)
  --ms N            how long each run lasts (default 1000; quick: 300)
  --rows A,B        only the works that yield these rows
  --queue-size N    descriptors of each ring (default 256)
  --buffer BYTES    the buffer that both devices advertise (default: each one's own default)
  --lazy-credit     the guest gives credit as Linux before 6.8
  --node-option=X   for our device's process, such as --cpu-prof; may be repeated
  --no-peer         leave the peer out
  --json            JSON only`;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    ms: { type: "string" },
    rows: { type: "string" },
    "queue-size": { type: "string", default: "256" },
    buffer: { type: "string" },
    "lazy-credit": { type: "boolean", default: false },
    "node-option": { type: "string", multiple: true, default: [] },
    "no-peer": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function worksFor(wanted: string | undefined): typeof WORKS {
  if (wanted === undefined) return WORKS;
  const names = wanted.split(",");
  const unknown = names.filter((name) => !ROW_NAMES.includes(name as RowName));
  if (unknown.length > 0)
    throw new Error(`no such row: ${unknown.join(", ")}; there are ${ROW_NAMES.join(", ")}`);
  return WORKS.filter((work) => rowsOf(work).some((row) => names.includes(row)));
}

/** The device's CPU time beside the driver's: a driver at full load all the time would be what limits. */
function effortsToText({ efforts }: ContestResult, measuredSeconds: number): string {
  return efforts
    .map(({ work, efforts: spent }) => {
      const each = SIDES.flatMap((side) => {
        const effort = spent.get(side);
        if (effort === undefined) return [];
        const share = (seconds: number) => `${Math.round((100 * seconds) / measuredSeconds)}%`;
        return [`${side} ${share(effort.deviceSeconds)} + ${share(effort.driverSeconds)}`];
      });
      return `  ${rowsOf(work)[0].padEnd(18)} ${each.join("   ")}`;
    })
    .join("\n");
}

async function main(): Promise<void> {
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const tell = (text: string): void => {
    if (!values.json) console.error(text);
  };
  const missing = whatPeerIsMissing();
  const isWithPeer = missing === undefined && !values["no-peer"];
  if (missing !== undefined)
    tell(`${missing}: "npm run setup:peers" installs it; the rest is measured without.`);
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 9));
  const durationMs = Number(values.ms ?? (values.quick ? 300 : 1000));
  const result = await runContest({
    works: worksFor(values.rows),
    rounds,
    durationMs,
    // Less would measure a just-in-time compiler: it takes our device about that long to be compiled for a kind of work.
    warmUpMs: Math.max(durationMs, 400),
    queueSize: Number(values["queue-size"]),
    peerProgram: isWithPeer ? peerProgram : undefined,
    bufferBytes: values.buffer === undefined ? undefined : Number(values.buffer),
    lazyCredit: values["lazy-credit"],
    nodeOptions: values["node-option"],
    onProgress: tell,
  });
  if (!values.json) {
    console.log(toTable(result.records));
    console.log(
      `\nCPU in percent of the time measured, device + driver (${peerCrate.name} ${peerCrate.version}):`,
    );
    console.log(effortsToText(result, (rounds * durationMs) / 1000));
    console.log();
  }
  for (const record of result.records) console.log(toJson(record));
}

await main();
