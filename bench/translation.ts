/**
 * What translation costs: our device with translation off, with everything mapped beforehand in pages of 4 KiB, and
 * behind a vIOMMU in strict mode with two kinds of front-end; side by side in one run. By itself:
 * `node build/bench/translation.js --help`.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { rowsOf, type Work } from "./rows.js";
import {
  ADDRESSING,
  rateOf,
  type Sample,
  TRANSLATION_WORKS,
  type TranslationRecord,
  translationRecord,
  translationTable,
  VARIANTS,
  type Variant,
} from "./translation-rows.js";
import { type MeasuredGuest, type SettingOptions, TranslationSetting } from "./translation-setting.js";

export interface TranslationOptions extends SettingOptions {
  readonly rounds: number;
  readonly durationMs: number;
  /** Before the rounds each work is run once with each variant, for so long; nothing is kept of it. */
  readonly warmUpMs: number;
  /** Default: all. Off is measured in any case. */
  readonly variants?: readonly Variant[];
  readonly works?: readonly Work[];
  /** Told of each finished round. */
  readonly onProgress?: (text: string) => void;
}

/** Measures the rows on translation; translation off is what the others are compared with, and no row. */
export async function runTranslation(options: TranslationOptions): Promise<TranslationRecord[]> {
  const { rounds, durationMs, warmUpMs, onProgress, works = TRANSLATION_WORKS } = options;
  const wanted = options.variants ?? VARIANTS;
  const variants = VARIANTS.filter((variant) => variant === "off" || wanted.includes(variant));
  const setting = new TranslationSetting(options);
  try {
    const guests: { readonly variant: Variant; readonly guest: MeasuredGuest }[] = [];
    for (const variant of variants)
      guests.push({ variant, guest: await setting.add(variant, ADDRESSING[variant]) });
    const samples = works.map((work) => ({ work, found: noSamples() }));
    const each = async (ms: number, first: number, take: boolean): Promise<void> => {
      for (const { work, found } of samples) {
        for (let turn = 0; turn < guests.length; turn++) {
          const { variant, guest } = guests[(first + turn) % guests.length];
          const sample = await guest.run(work, ms);
          if (take) found[variant].push(sample);
        }
      }
    };
    if (warmUpMs > 0) await each(warmUpMs, 0, false);
    for (let round = 0; round < rounds; round++) {
      // Who goes first changes from round to round.
      await each(durationMs, round, true);
      onProgress?.(`round ${round + 1} of ${rounds} is done`);
    }
    return variants
      .filter((variant) => variant !== "off")
      .flatMap((variant) =>
        samples.map(({ work, found }) => translationRecord(variant, work, found[variant], found.off)),
      );
  } finally {
    await setting.close();
  }
}

function noSamples(): Record<Variant, Sample[]> {
  return { off: [], on: [], strict: [], pipelined: [] };
}

/** Throughput with messages of 4 KiB, in MiB/s. */
export interface EntriesRates {
  readonly toHost: number;
  readonly toGuest: number;
}

/**
 * Throughput with so many entries in the device's IOTLB. The guest's memory is cut into as many pieces, which lie in
 * shuffled order; once these are as small as pages, the rest are mappings that nobody uses.
 */
export async function measureWithEntries(entries: number, durationMs: number): Promise<EntriesRates> {
  const setting = new TranslationSetting();
  try {
    const guest = await setting.add("entries", { kind: "mapped", entries });
    const rate = async (row: string): Promise<number> => {
      const work = TRANSLATION_WORKS.find((candidate) => rowsOf(candidate)[0] === row);
      if (work === undefined) throw new Error(`no work yields ${row}`);
      // Once to warm up.
      await guest.run(work, durationMs);
      return rateOf(await guest.run(work, durationMs));
    };
    return { toHost: await rate("g2h-4k"), toGuest: await rate("h2g-4k") };
  } finally {
    await setting.close();
  }
}

const USAGE = `node build/bench/translation.js [options]
  --rounds N        how often each variant runs each work (default 9)
  --ms N            how long each run lasts (default 500)
  --variants A,B    of ${VARIANTS.join(", ")} (default all; off always)
  --rows A,B        of ${TRANSLATION_WORKS.map((work) => rowsOf(work)[0]).join(", ")}
  --queue-size N    descriptors of each ring (default 256)
  --entries A,B     instead: throughput with so many entries in the IOTLB
  --node-option=X   for the devices, such as --cpu-prof; may be repeated
  --json            JSON only`;

function chosen<T extends string>(given: string | undefined, all: readonly T[]): readonly T[] {
  if (given === undefined) return all;
  const names = given.split(",");
  const unknown = names.filter((name) => !all.some((known) => known === name));
  if (unknown.length > 0) throw new Error(`no such one: ${unknown.join(", ")}; there are ${all.join(", ")}`);
  return all.filter((known) => names.includes(known));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "9" },
      ms: { type: "string", default: "500" },
      variants: { type: "string" },
      rows: { type: "string" },
      "queue-size": { type: "string" },
      entries: { type: "string" },
      "node-option": { type: "string", multiple: true, default: [] },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const durationMs = Number(values.ms);
  if (values.entries !== undefined) {
    for (const entries of values.entries.split(",").map(Number))
      console.log(JSON.stringify({ entries, ...(await measureWithEntries(entries, durationMs)) }));
    return;
  }
  const rows = chosen(
    values.rows,
    TRANSLATION_WORKS.map((work) => rowsOf(work)[0]),
  );
  const records = await runTranslation({
    rounds: Number(values.rounds),
    durationMs,
    warmUpMs: Math.max(durationMs, 400),
    variants: chosen(values.variants, VARIANTS),
    works: TRANSLATION_WORKS.filter((work) => rows.includes(rowsOf(work)[0])),
    queueSize: values["queue-size"] === undefined ? undefined : Number(values["queue-size"]),
    nodeOptions: values["node-option"],
    onProgress: (text) => {
      if (!values.json) console.error(text);
    },
  });
  if (!values.json) console.log(`${translationTable(records)}\n`);
  for (const record of records) console.log(JSON.stringify(record));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
