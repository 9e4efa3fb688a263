/**
 * `npm run bench`: our device, vhost-device-vsock and the floor, measured in turn on this machine. Writes one JSON
 * object a line for each row to standard output, and a table for people to standard error.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { peerCrate, peerProgram, whatPeerIsMissing } from "../test/peers/paths.js";
import { runContest } from "./contest.js";
import { GUEST_BUFFER_BYTES } from "./driver.js";
import { DEFAULT_BUFFER_BYTES } from "./entries.js";
import { measureMemory } from "./memory.js";
import { type BenchRecord, toJson } from "./record.js";
import { ROW_NAMES, type RowName, rowsOf, SETTINGS, type Setting, STATED_ROW_NAMES, WORKS } from "./rows.js";
import { measureStarts } from "./start.js";
import { mostDisturbed, toBusyTable, toTable } from "./table.js";

/** How much of everything: a whole run takes about ten minutes, the light one less than one. */
const WHOLE = { rounds: 15, mostRepeats: 10, ms: 600, warmUpMs: 600, memoryRounds: 3, starts: 15 };
// Less to warm up would measure a just-in-time compiler: it takes our device about that long to be compiled for a work.
const QUICK = { rounds: 3, mostRepeats: 0, ms: 180, warmUpMs: 250, memoryRounds: 1, starts: 3 };

/** What the rest of the machine may take, in processors, before it is worth a word. */
const QUIET = 0.1;

const USAGE = `npm run bench -- [options]
  --quick           the light version: under a minute
  --rounds N        how often each side runs each work (default ${WHOLE.rounds}; quick: ${QUICK.rounds})
  --ms N            how long each run lasts (default ${WHOLE.ms}; quick: ${QUICK.ms})
  --rows A,B        only the works that yield these rows
  --setting A       only "default" (each device as it comes) or "equal" (both with the same buffer); both otherwise
  --buffer BYTES    the buffer of the setting "equal" (default ${DEFAULT_BUFFER_BYTES.ours})
  --queue-size N    descriptors of each ring (default 256)
  --guest-buffer B  bytes that the guest's connections take (default ${GUEST_BUFFER_BYTES}, as Linux)
  --lazy-credit     the guest gives credit as Linux before 6.8
  --node-option=X   for our device's process, such as --cpu-prof; may be repeated
  --no-peer         leave the peer out
  --out FILE        write the JSON lines there, not to standard output
  --json            JSON only: no table, no progress`;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    ms: { type: "string" },
    rows: { type: "string" },
    setting: { type: "string" },
    buffer: { type: "string" },
    "queue-size": { type: "string", default: "256" },
    "guest-buffer": { type: "string" },
    "lazy-credit": { type: "boolean", default: false },
    "node-option": { type: "string", multiple: true, default: [] },
    "no-peer": { type: "boolean", default: false },
    out: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

const ALL_ROWS: readonly RowName[] = [...ROW_NAMES, ...STATED_ROW_NAMES];

function wantedRows(given: string | undefined): ReadonlySet<RowName> {
  if (given === undefined) return new Set(ALL_ROWS);
  const names = given.split(",");
  const unknown = names.filter((name) => !ALL_ROWS.some((row) => row === name));
  if (unknown.length > 0)
    throw new Error(`no such row: ${unknown.join(", ")}; there are ${ALL_ROWS.join(", ")}`);
  return new Set(ALL_ROWS.filter((row) => names.includes(row)));
}

function wantedSettings(given: string | undefined, isWithPeer: boolean): readonly Setting[] {
  const settings = SETTINGS.filter((setting) => given === undefined || setting === given);
  if (settings.length === 0) throw new Error(`--setting is one of ${SETTINGS.join(", ")}`);
  if (given === "equal" && !isWithPeer) throw new Error("--setting equal needs the peer");
  return settings;
}

function tell(text: string): void {
  if (!values.json) console.error(text);
}

/** The peer's program, if it takes part. */
function findPeer(): string | undefined {
  if (values["no-peer"]) return undefined;
  const missing = whatPeerIsMissing();
  if (missing === undefined) return peerProgram;
  tell(`${missing}: "npm run setup:peers" installs it; the rest is measured without.`);
  return undefined;
}

async function measure(): Promise<BenchRecord[]> {
  const peer = findPeer();
  const amount = values.quick ? QUICK : WHOLE;
  const rows = wantedRows(values.rows);
  const works = WORKS.filter((work) => rowsOf(work).some((row) => rows.has(row)));
  const records: BenchRecord[] = [];
  if (works.length > 0) {
    const durationMs = Number(values.ms ?? amount.ms);
    const contest = await runContest({
      works,
      rounds: Number(values.rounds ?? amount.rounds),
      durationMs,
      mostRepeats: amount.mostRepeats,
      warmUpMs: Math.max(durationMs, amount.warmUpMs),
      queueSize: Number(values["queue-size"]),
      peerProgram: peer,
      settings: wantedSettings(values.setting, peer !== undefined),
      bufferBytes: values.buffer === undefined ? undefined : Number(values.buffer),
      guestBufferBytes: values["guest-buffer"] === undefined ? undefined : Number(values["guest-buffer"]),
      lazyCredit: values["lazy-credit"],
      nodeOptions: values["node-option"],
      onProgress: tell,
    });
    records.push(...contest.records);
  }
  const some = (prefix: string): boolean =>
    STATED_ROW_NAMES.some((row) => row.startsWith(prefix) && rows.has(row));
  const common = { peerProgram: peer, onProgress: tell };
  if (some("memory-"))
    records.push(...(await measureMemory({ ...common, rounds: amount.memoryRounds, useMs: amount.ms })));
  if (some("start-")) records.push(...(await measureStarts({ ...common, rounds: amount.starts })));
  return records;
}

async function main(): Promise<void> {
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const records = await measure();
  const lines = records.map((record) => `${toJson(record)}\n`).join("");
  if (values.out === undefined) process.stdout.write(lines);
  else writeFileSync(values.out, lines);
  tell(`\nThe peer is ${peerCrate.name} ${peerCrate.version}.\n\n${toTable(records)}`);
  const disturbed = mostDisturbed(records);
  if (disturbed > QUIET)
    tell(
      `\nThe machine was not quiet: everything else took up to ${Math.round(100 * disturbed)}% of a processor.`,
    );
  const busy = records.filter(({ hostBusy }) => hostBusy.ours !== null);
  if (busy.length > 0)
    tell(`\nCPU time of the processes, in percent of the time measured:\n\n${toBusyTable(busy)}`);
}

await main();
