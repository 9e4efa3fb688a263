/**
 * Whether something grew in the course of a soak. Start-up is left out; of what follows the medians of the first and of
 * the last third are compared, so that neither a single peak nor how the load happens to stand decides. Arithmetic only.
 */
import { median } from "./statistics.js";

/** What is looked at, and how much the last third may exceed the first. Falling is never wrong. */
export interface Tolerance {
  /** Only samples taken while nothing was under way. */
  readonly quiet: boolean;
  /** Share of the first third. */
  readonly share: number;
  readonly plus: number;
}

const MIB = 2 ** 20;

/**
 * Our choice. Counts of descriptors and threads are exact when nothing is under way. Memory is V8's to give back when it
 * likes: what is allowed is some 2 % of a device's memory and what one thread's heap moves by; a byte lost for each packet
 * or a kilobyte for each connection would be many times as much in half an hour.
 */
export const TOLERANCES = {
  rssBytes: { quiet: false, share: 0.05, plus: 2 * MIB },
  privateBytes: { quiet: false, share: 0.05, plus: 2 * MIB },
  pssBytes: { quiet: false, share: 0.05, plus: 2 * MIB },
  heapUsedBytes: { quiet: false, share: 0.1, plus: 1 * MIB },
  heapLiveBytes: { quiet: true, share: 0.02, plus: 0.125 * MIB },
  externalBytes: { quiet: true, share: 0.05, plus: 1 * MIB },
  descriptors: { quiet: true, share: 0, plus: 0 },
  mappings: { quiet: true, share: 0.05, plus: 16 },
  threads: { quiet: true, share: 0, plus: 0 },
} as const satisfies Record<string, Tolerance>;

export type Metric = keyof typeof TOLERANCES;
export const METRICS = Object.keys(TOLERANCES) as Metric[];

/** One line of a soak's output. */
export interface SoakSample extends Readonly<Record<Metric, number>> {
  readonly sample: number;
  readonly seconds: number;
  /** Nothing was under way: no connection was open, every scene was over. */
  readonly quiet: boolean;
}

export interface Trend {
  /** Medians. */
  readonly thirds: readonly [number, number, number];
  /** Last third less first. */
  readonly growth: number;
  readonly allowed: number;
  readonly isGrowing: boolean;
}

/** The part of the run that start-up takes: caches fill, functions are compiled, heaps find their size. */
const START_UP_SHARE = 0.1;
/** In each third, at least. */
const FEWEST_SAMPLES = 3;

/** Undefined if there are too few samples to tell. */
export function trendOf(samples: readonly SoakSample[], metric: Metric): Trend | undefined {
  const { quiet, share, plus }: Tolerance = TOLERANCES[metric];
  const end = Math.max(0, ...samples.map(({ seconds }) => seconds));
  const counted = samples.filter(
    (sample) => sample.seconds >= START_UP_SHARE * end && (sample.quiet || !quiet),
  );
  const third = Math.floor(counted.length / 3);
  if (third < FEWEST_SAMPLES) return undefined;
  const values = counted.map((sample) => sample[metric]);
  const first = median(values.slice(0, third));
  const last = median(values.slice(-third));
  const growth = last - first;
  const allowed = share * first + plus;
  const middle = median(values.slice(third, -third));
  return { thirds: [first, middle, last], growth, allowed, isGrowing: growth > allowed };
}

export type Verdict = "flat" | "growing" | "corrupt" | "failed" | "too-short";

/** What happened besides. */
export interface Incidents {
  readonly corrupt: number;
  /** Scenes that ended otherwise than they had to, and errors that the device reported of itself. */
  readonly failures: number;
}

export function verdictOf(
  samples: readonly SoakSample[],
  { corrupt, failures }: Incidents,
): { readonly verdict: Verdict; readonly trends: Partial<Record<Metric, Trend>> } {
  const trends: Partial<Record<Metric, Trend>> = {};
  for (const metric of METRICS) {
    const trend = trendOf(samples, metric);
    if (trend !== undefined) trends[metric] = trend;
  }
  const found = Object.values(trends);
  const verdict =
    corrupt > 0
      ? "corrupt"
      : failures > 0
        ? "failed"
        : found.some(({ isGrowing }) => isGrowing)
          ? "growing"
          : found.length < METRICS.length
            ? "too-short"
            : "flat";
  return { verdict, trends };
}

/** The exit status of a soak: 1 if anything is wrong. A short run in which nothing was found is no failure. */
export function statusOf(verdict: Verdict): number {
  return verdict === "flat" || verdict === "too-short" ? 0 : 1;
}
