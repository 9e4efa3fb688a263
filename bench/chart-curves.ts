/** The charts of how cost grows with work, and of a soak in time. Must not know how they are drawn. */
import { type Panel, panelsChart } from "./chart-panels.js";
import { CURVE_NAMES, CURVES, type CurvePoint } from "./curves-points.js";
import { times } from "./report-words.js";
import type { SoakSample } from "./soak-verdict.js";

/** A curve's points, in the order of what there is more and more of. */
export type CurvePoints = readonly CurvePoint[];

export function curvesOf(points: readonly CurvePoint[]): CurvePoints[] {
  return CURVE_NAMES.map((name) =>
    points.filter(({ curve }) => curve === name).sort((a, b) => a.x - b.x),
  ).filter((curve) => curve.length > 0);
}

/** The unit of what is only counted is "1". */
export function unitOf({ unit }: CurvePoint): string {
  return unit === "1" ? "number" : unit;
}

export function curvesChart(curves: readonly CurvePoints[], subtitle: string): string {
  const growing = [...new Set(curves.map(([{ curve }]) => CURVES[curve].of))];
  return panelsChart({
    title: "What more of something costs",
    subtitle: `${subtitle} Dots are medians, lines through them as long as the spread.`,
    description: `${subtitle} Every figure is in the tables of the page.`,
    columns: 4,
    groups: growing.map((of) => ({
      title: `More ${of}`,
      panels: curves.filter(([{ curve }]) => CURVES[curve].of === of).map(curvePanel),
    })),
  });
}

function curvePanel(points: CurvePoints): Panel {
  const [first] = points;
  const last = points[points.length - 1];
  const { title, of } = CURVES[first.curve];
  return {
    title,
    xLabel: of,
    yLabel: unitOf(first),
    points: points.map(({ x, value, spread }) => ({ x, y: value, spread })),
    xAxis: "logarithmic",
    remark: `last ÷ first: ${times(last.relative)}`,
  };
}

const MIB = 2 ** 20;

export function soakChart(samples: readonly SoakSample[], subtitle: string): string {
  const panel = (title: string, yLabel: string, of: (sample: SoakSample) => number | undefined): Panel => ({
    title,
    xLabel: "minutes",
    yLabel,
    points: samples.flatMap((sample) => {
      const y = of(sample);
      return y === undefined ? [] : [{ x: sample.seconds / 60, y, spread: null }];
    }),
    xAxis: "linear",
    remark: "",
  });
  return panelsChart({
    title: "Memory and descriptors in the course of a soak",
    subtitle,
    description: `${subtitle} The figures that decide are in the table of the page.`,
    columns: 3,
    groups: [
      {
        title: `${samples.length} samples`,
        panels: [
          panel("memory that no file is behind", "MiB", ({ privateBytes }) => privateBytes / MIB),
          panel("all resident memory", "MiB", ({ rssBytes }) => rssBytes / MIB),
          panel("descriptors, when nothing is under way", "number", ({ quiet, descriptors }) =>
            quiet ? descriptors : undefined,
          ),
        ],
      },
    ],
  });
}
