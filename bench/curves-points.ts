/**
 * The curves: what grows along each, in which steps, and how the values of several rounds become one record a point. Must not
 * know how a value was measured.
 */
import { median, pairedRatio, significant, spread } from "./statistics.js";

export interface Curve {
  readonly title: string;
  /** What x counts. */
  readonly of: string;
  readonly unit: "MiB/s" | "s/GiB" | "MiB" | "1";
  readonly xs: readonly number[];
}

const CONNECTIONS = [1, 10, 100, 1000, 10_000] as const;
const VMS = [1, 4, 16, 64] as const;
const ENTRIES = [1, 4, 16, 64, 256, 1024, 2048] as const;
const RING_SIZES = [128, 256, 512, 1024] as const;
/** As many as the device offers slots for. */
const REGIONS = [1, 4, 16, 64, 256, 509] as const;

function rate(title: string, of: string, xs: readonly number[]): Curve {
  return { title, of, unit: "MiB/s", xs };
}

/** Streams of which the daemon's CPU time is measured as well. */
const FLOWS = {
  "connections-active": rate("guest to host, 4 KiB messages on all in turn", "connections", CONNECTIONS),
  "connections-idle": rate("guest to host, 4 KiB messages on one of them", "connections", CONNECTIONS),
  "vms-active": rate("guest to host, 4 KiB messages, each VM in its turn", "VMs of one daemon", VMS),
  "vms-idle": rate("guest to host, 4 KiB messages from one of them", "VMs of one daemon", VMS),
  "ring-to-host": rate("guest to host, 4 KiB messages", "descriptors of each ring", RING_SIZES),
  "ring-to-guest": rate("host to guest, 4 KiB writes", "descriptors of each ring", RING_SIZES),
  "regions-to-host": rate("guest to host, 4 KiB messages, buffers in all", "regions of memory", REGIONS),
  "regions-to-guest": rate("host to guest, 4 KiB writes, buffers in all", "regions of memory", REGIONS),
} as const satisfies Record<string, Curve>;

export type FlowCurve = keyof typeof FLOWS;
/** That time: it hardly depends on what else the machine does. */
type CpuCurve = `${FlowCurve}-cpu`;

const CPU = Object.fromEntries(
  Object.entries(FLOWS).map(([name, { title, ...rest }]) => [
    `${name}-cpu`,
    { ...rest, title: `CPU of the daemon: ${title}`, unit: "s/GiB" },
  ]),
) as Record<CpuCurve, Curve>;

const OTHERS = {
  "vms-memory": {
    title: "private memory of the daemon, divided by the VMs, each of which was used",
    of: "VMs of one daemon",
    unit: "MiB",
    xs: VMS,
  },
  "vms-threads": { title: "threads of the daemon", of: "VMs of one daemon", unit: "1", xs: VMS },
  "iotlb-to-host": rate("guest to host, 4 KiB messages, all mapped", "entries of the IOTLB", ENTRIES),
  "iotlb-to-guest": rate("host to guest, 4 KiB writes, all mapped", "entries of the IOTLB", ENTRIES),
} as const satisfies Record<string, Curve>;

export type CurveName = FlowCurve | CpuCurve | keyof typeof OTHERS;
export const CURVES: Readonly<Record<CurveName, Curve>> = { ...FLOWS, ...CPU, ...OTHERS };
export const CURVE_NAMES = (Object.keys(CURVES) as CurveName[]).sort();

/** One line of the output. */
export interface CurvePoint {
  readonly curve: CurveName;
  readonly x: number;
  readonly unit: Curve["unit"];
  /** The median over the rounds. */
  readonly value: number;
  /** To the first point of the curve: the median of the rounds' ratios. */
  readonly relative: number;
  /** (Largest - smallest) / median. */
  readonly spread: number;
}

/** What was measured: a list of values, a round each, by x. */
export type Measured = ReadonlyMap<number, readonly number[]>;

/** A point for each x that was measured, the first of which is what the others are compared with. */
export function pointsOf(curve: CurveName, measured: Measured): CurvePoint[] {
  const { unit } = CURVES[curve];
  const [first] = measured.values();
  return [...measured].map(([x, values]) => ({
    curve,
    x,
    unit,
    value: significant(median(values)),
    relative: significant(pairedRatio(values, first) ?? Number.NaN, 3),
    spread: significant(spread(values), 2),
  }));
}

/** Points as a table for people, a line each. */
export function pointsToText(points: readonly CurvePoint[]): string {
  return points
    .map(({ curve, x, unit, value, relative, spread: apart }) => {
      const figures = `${String(value).padStart(8)} ${unit.padEnd(5)}  ${String(relative).padStart(6)}`;
      return `${curve.padEnd(23)} ${String(x).padStart(6)} ${figures}  ±${Math.round(100 * apart)}%`;
    })
    .join("\n");
}
