/**
 * The rows on translation: what is run, and how the samples of several rounds become one record a row. Our device only,
 * each way of addressing in proportion to translation off in the same round. Must not know how a sample was measured.
 */
import type { Addressing, Tally } from "./commands.js";
import { type RowName, rowsOf, WORKS, type Work } from "./rows.js";
import { median, pairedRatio, significant, spread } from "./statistics.js";

export const VARIANTS = ["off", "on", "strict", "pipelined"] as const;
export type Variant = (typeof VARIANTS)[number];

export const ADDRESSING: Readonly<Record<Variant, Addressing>> = {
  off: { kind: "guest-physical" },
  on: { kind: "mapped" },
  strict: { kind: "strict", isPipelining: false },
  pipelined: { kind: "strict", isPipelining: true },
};

/** The least share of the throughput of translation off. */
export const BARS: Readonly<Partial<Record<Variant, number>>> = { on: 0.85 };

const STREAMS: readonly RowName[] = ["g2h-64k", "g2h-4k", "h2g-64k", "h2g-4k"];

export const TRANSLATION_WORKS: readonly Work[] = WORKS.filter((work) => STREAMS.includes(rowsOf(work)[0]));

/** One run of one work. */
export interface Sample {
  readonly bytes: number;
  readonly seconds: number;
  readonly deviceCpuSeconds: number;
  readonly driverCpuSeconds: number;
  /** Behind a vIOMMU. */
  readonly tally: Tally | undefined;
}

export interface TranslationRecord {
  /** `translation-<variant>-<row of the comparison>`. */
  readonly row: string;
  readonly unit: "MiB/s";
  /** Medians over the rounds: this way of addressing, and translation off. */
  readonly ours: number;
  readonly off: number;
  /** The median of the rounds' ratios. */
  readonly ratio: { readonly off: number };
  readonly bar: { readonly off: number | null };
  readonly met: boolean | null;
  readonly spread: { readonly ours: number; readonly off: number };
  /** Messages of the IOTLB for each MiB of payload. */
  readonly perMiB: { readonly misses: number; readonly updates: number; readonly invalidations: number };
  /** Shares of the time that the runs took, all rounds together. */
  readonly time: {
    /** The guest waits until a buffer is unmapped; MISSes that are answered meanwhile are within. */
    readonly unmapping: number;
    /** The front-end answers other MISSes. */
    readonly answering: number;
    readonly deviceCpu: number;
    readonly driverCpu: number;
  };
  /** CPU seconds of the device's process per GiB. */
  readonly cpu: { readonly ours: number; readonly off: number };
}

export const MIB = 2 ** 20;
const GIB = 2 ** 30;

export function translationRecord(
  variant: Variant,
  work: Work,
  samples: readonly Sample[],
  off: readonly Sample[],
): TranslationRecord {
  const rates = samples.map(rateOf);
  const offRates = off.map(rateOf);
  const ratio = significant(pairedRatio(rates, offRates) ?? Number.NaN, 3);
  const bar = BARS[variant] ?? null;
  const seconds = sum(samples, (sample) => sample.seconds);
  const mib = sum(samples, (sample) => sample.bytes) / MIB;
  const share = (of: (sample: Sample) => number): number => significant(sum(samples, of) / seconds, 3);
  const perMiB = (of: (tally: Tally) => number): number =>
    significant(sum(samples, ({ tally }) => (tally === undefined ? 0 : of(tally))) / mib, 3);
  return {
    row: `translation-${variant}-${rowsOf(work)[0]}`,
    unit: "MiB/s",
    ours: significant(median(rates)),
    off: significant(median(offRates)),
    ratio: { off: ratio },
    bar: { off: bar },
    met: bar === null ? null : ratio >= bar,
    spread: { ours: significant(spread(rates), 2), off: significant(spread(offRates), 2) },
    perMiB: {
      misses: perMiB(({ misses }) => misses),
      updates: perMiB(({ updates }) => updates),
      invalidations: perMiB(({ invalidations }) => invalidations),
    },
    time: {
      unmapping: share(({ tally }) => (tally?.unmappingNs ?? 0) / 1e9),
      answering: share(({ tally }) => (tally?.answeringNs ?? 0) / 1e9),
      deviceCpu: share((sample) => sample.deviceCpuSeconds),
      driverCpu: share((sample) => sample.driverCpuSeconds),
    },
    cpu: { ours: significant(cpuPerGib(samples), 3), off: significant(cpuPerGib(off), 3) },
  };
}

export function rateOf({ bytes, seconds }: Sample): number {
  return bytes / MIB / seconds;
}

function cpuPerGib(samples: readonly Sample[]): number {
  return sum(samples, (sample) => sample.deviceCpuSeconds) / (sum(samples, (sample) => sample.bytes) / GIB);
}

function sum(samples: readonly Sample[], of: (sample: Sample) => number): number {
  return samples.reduce((total, sample) => total + of(sample), 0);
}

const HEADINGS = ["row", "MiB/s", "±", "off", "±", "of off", "bar", "met", "misses/MiB", "invalidations/MiB"];
const TIME_HEADINGS = ["unmapping", "answering", "device", "driver", "s/GiB", "off"];

/** A table for people, in plain text. */
export function translationTable(records: readonly TranslationRecord[]): string {
  const lines = [[...HEADINGS, ...TIME_HEADINGS], ...records.map(cells)];
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column])))
        .join("  "),
    )
    .join("\n");
}

function cells({ row, ours, off, ratio, bar, met, spread, perMiB, time, cpu }: TranslationRecord): string[] {
  return [
    row,
    String(ours),
    percent(spread.ours),
    String(off),
    percent(spread.off),
    String(ratio.off),
    bar.off === null ? "-" : `≥${bar.off}×`,
    met === null ? "" : met ? "yes" : "NO",
    String(perMiB.misses),
    String(perMiB.invalidations),
    percent(time.unmapping),
    percent(time.answering),
    percent(time.deviceCpu),
    percent(time.driverCpu),
    String(cpu.ours),
    String(cpu.off),
  ];
}

function percent(value: number): string {
  return `${Math.round(value * 100)}%`;
}
