/** Measures the curves: all points of a curve in turn, over several rounds, on processes that live as long as the curve. */
import {
  CURVE_NAMES,
  CURVES,
  type CurveName,
  type CurvePoint,
  type FlowCurve,
  pointsOf,
} from "./curves-points.js";
import { CurveSetting, type Flow, type SettingOptions } from "./curves-setting.js";
import { sampleProcess } from "./soak-sample.js";
import { measureWithEntries } from "./translation.js";

export interface CurveOptions {
  readonly rounds: number;
  readonly durationMs: number;
  /** Points above are left out. */
  readonly mostX?: number;
  readonly nodeOptions?: readonly string[];
  readonly onPoints?: (points: readonly CurvePoint[]) => void;
}

/** Curves whose names begin alike come from the same runs. */
const FAMILIES: readonly { readonly family: string; readonly run: Family }[] = [
  { family: "connections", run: connections },
  { family: "vms", run: vms },
  { family: "iotlb", run: iotlb },
  { family: "ring", run: rings },
  { family: "regions", run: regions },
];

/** Adds what it measures to `values`. */
type Family = (values: Values, options: CurveOptions) => Promise<void>;

const MIB = 2 ** 20;
/** Each VM's share of a round in which all are active. */
const VM_TURN_MS = 5;
const VM_WARM_UP_MS = 100;
/** Beyond so many connections, opening them takes longer than using them. */
const LEAST_MS_PER_THOUSAND = 100;

class Values {
  readonly #found = new Map<CurveName, Map<number, number[]>>();

  constructor(private readonly mostX: number) {}

  xs(curve: CurveName): number[] {
    return CURVES[curve].xs.filter((x) => x <= this.mostX);
  }

  add(curve: CurveName, x: number, value: number): void {
    let points = this.#found.get(curve);
    if (points === undefined) {
      points = new Map(this.xs(curve).map((each) => [each, []]));
      this.#found.set(curve, points);
    }
    points.get(x)?.push(value);
  }

  /** A run's rate, and its CPU time in the curve beside. */
  addFlow(curve: FlowCurve, x: number, { rate, cpu }: Flow): void {
    this.add(curve, x, rate);
    this.add(`${curve}-cpu`, x, cpu);
  }

  points(curve: CurveName): CurvePoint[] {
    const found = this.#found.get(curve);
    return found === undefined ? [] : pointsOf(curve, found);
  }
}

/** Measures the curves of these names, and whatever comes along with them. */
export async function runCurves(names: readonly CurveName[], options: CurveOptions): Promise<CurvePoint[]> {
  const all: CurvePoint[] = [];
  for (const { family, run } of FAMILIES) {
    const curves = CURVE_NAMES.filter((curve) => curve.startsWith(`${family}-`));
    if (!curves.some((curve) => names.includes(curve))) continue;
    const values = new Values(options.mostX ?? Number.POSITIVE_INFINITY);
    await run(values, options);
    const points = curves.flatMap((curve) => values.points(curve));
    options.onPoints?.(points);
    all.push(...points);
  }
  return all;
}

/** Every x once a round, in an order that turns around from one round to the next. */
async function inRounds(
  xs: readonly number[],
  rounds: number,
  each: (x: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const x of round % 2 === 0 ? xs : [...xs].reverse()) await each(x);
  }
}

async function connections(values: Values, { rounds, durationMs, nodeOptions }: CurveOptions): Promise<void> {
  await withSetting({ nodeOptions }, async (setting) => {
    await setting.toHost(2 * durationMs);
    await inRounds(values.xs("connections-active"), rounds, async (x) => {
      const ms = Math.max(durationMs, (x / 1000) * LEAST_MS_PER_THOUSAND);
      values.addFlow("connections-active", x, await setting.toHost(ms, { connections: x }));
      values.addFlow("connections-idle", x, await setting.toHost(durationMs, { idle: x - 1 }));
    });
  });
}

async function vms(values: Values, { rounds, durationMs, nodeOptions }: CurveOptions): Promise<void> {
  const xs = values.xs("vms-active");
  await withSettings(
    xs.map((count) => ({ vms: count, nodeOptions })),
    async (settings) => {
      // Every VM's thread compiles for itself.
      for (const [index, x] of xs.entries()) await settings[index].inTurn(x * VM_WARM_UP_MS, VM_WARM_UP_MS);
      await inRounds(xs, rounds, async (x) => {
        const setting = settings[xs.indexOf(x)];
        const ms = Math.max(durationMs, 2 * x * VM_TURN_MS);
        values.addFlow("vms-active", x, await setting.inTurn(ms, VM_TURN_MS));
        values.addFlow("vms-idle", x, await setting.toHost(durationMs, { vm: x - 1 }));
        const { privateBytes, threads } = sampleProcess(setting.daemon.pid);
        values.add("vms-memory", x, privateBytes / MIB / x);
        values.add("vms-threads", x, threads);
      });
    },
  );
}

async function iotlb(values: Values, { rounds, durationMs }: CurveOptions): Promise<void> {
  await inRounds(values.xs("iotlb-to-host"), rounds, async (x) => {
    const { toHost, toGuest } = await measureWithEntries(x, durationMs);
    values.add("iotlb-to-host", x, toHost);
    values.add("iotlb-to-guest", x, toGuest);
  });
}

function rings(values: Values, options: CurveOptions): Promise<void> {
  return bothWays(values, options, ["ring-to-host", "ring-to-guest"], (x) => ({ queueSize: x }));
}

function regions(values: Values, options: CurveOptions): Promise<void> {
  return bothWays(values, options, ["regions-to-host", "regions-to-guest"], (x) => ({ regions: x }));
}

/** A setting for each x, measured in both directions. */
async function bothWays(
  values: Values,
  { rounds, durationMs, nodeOptions }: CurveOptions,
  [toHost, toGuest]: readonly [FlowCurve, FlowCurve],
  settingOf: (x: number) => SettingOptions,
): Promise<void> {
  const xs = values.xs(toHost);
  await withSettings(
    xs.map((x) => ({ ...settingOf(x), nodeOptions })),
    async (settings) => {
      const both = async (x: number, ms: number): Promise<[Flow, Flow]> => {
        const setting = settings[xs.indexOf(x)];
        return [await setting.toHost(ms), await setting.toGuest(ms)];
      };
      for (const x of xs) await both(x, 2 * durationMs);
      await inRounds(xs, rounds, async (x) => {
        const [there, back] = await both(x, durationMs);
        values.addFlow(toHost, x, there);
        values.addFlow(toGuest, x, back);
      });
    },
  );
}

type GivenOptions = { [Key in keyof SettingOptions]: SettingOptions[Key] | undefined };

async function withSettings(
  options: readonly GivenOptions[],
  use: (settings: readonly CurveSetting[]) => Promise<void>,
): Promise<void> {
  const settings: CurveSetting[] = [];
  try {
    for (const { nodeOptions = [], ...rest } of options)
      settings.push(await CurveSetting.start({ ...(rest as SettingOptions), nodeOptions }));
    await use(settings);
  } finally {
    for (const setting of settings) await setting.close();
  }
}

function withSetting(options: GivenOptions, use: (setting: CurveSetting) => Promise<void>): Promise<void> {
  return withSettings([options], ([setting]) => use(setting));
}
