/**
 * Small multiples: panels of one size side by side, a line of points each, their vertical axes from 0. Must not know what
 * the points are.
 */
import { type Extent, keepApart, linearScale, type Scale } from "./chart-scale.js";
import { drawing, element, heading, label, line, widthOf, wrapped } from "./chart-svg.js";
import { figure } from "./report-words.js";

export interface PanelPoint {
  readonly x: number;
  readonly y: number;
  /** (Largest - smallest) / y; null: of one run only. */
  readonly spread: number | null;
}

export interface Panel {
  readonly title: string;
  /** What stands on the axes, units included. */
  readonly xLabel: string;
  readonly yLabel: string;
  readonly points: readonly PanelPoint[];
  /** Logarithmic: a value written at each point, and each mark drawn. Linear: from 0, at round numbers. */
  readonly xAxis: "logarithmic" | "linear";
  /** Written in the panel, such as what the last point comes to. */
  readonly remark: string;
}

export interface PanelsChart {
  readonly title: string;
  readonly subtitle: string;
  readonly description: string;
  readonly columns: number;
  readonly groups: readonly PanelGroup[];
}

/** Begins a line of panels of its own. */
export interface PanelGroup {
  readonly title: string;
  readonly panels: readonly Panel[];
}

const WIDTH = 1000;
const LEFT = 20;
const BOTTOM = 12;
const GROUP_HEIGHT = 34;
const PLOT_HEIGHT = 110;
const TITLE_LINE = 16;
/** Around the plot of a panel; on top of it the lines of its title come. */
const MARGIN = { left: 58, right: 22, top: 30, bottom: 52 } as const;

export function panelsChart({ title, subtitle, description, columns, groups }: PanelsChart): string {
  const width = (WIDTH - 2 * LEFT) / columns;
  const { content, bottom } = heading(title, subtitle, WIDTH);
  let top = bottom;
  for (const group of groups) {
    content.push(line(LEFT, top + 6, WIDTH - LEFT, top + 6, "grid"));
    content.push(label(LEFT + 4, top + 22, group.title, "head"));
    top += GROUP_HEIGHT;
    for (let first = 0; first < group.panels.length; first += columns) {
      const panels = group.panels.slice(first, first + columns);
      // Plots of one line stand at one height, however long their titles are.
      const titleLines = Math.max(...panels.map((panel) => titleIn(panel, width).length));
      for (const [column, panel] of panels.entries())
        content.push(...panelDrawn(panel, { left: LEFT + column * width, top, width, titleLines }));
      top += titleLines * TITLE_LINE + MARGIN.top + PLOT_HEIGHT + MARGIN.bottom;
    }
  }
  return drawing({ width: WIDTH, height: top + BOTTOM, title, description, content });
}

function titleIn({ title }: Panel, width: number): string[] {
  return wrapped(title, width - MARGIN.right);
}

interface Place {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly titleLines: number;
}

function panelDrawn(panel: Panel, { left, top, width, titleLines }: Place): string[] {
  const { xLabel, yLabel, points, remark } = panel;
  const right = left + width - MARGIN.right;
  const across: Extent = [left + MARGIN.left, right];
  const unitY = top + titleLines * TITLE_LINE + 10;
  const plotTop = top + titleLines * TITLE_LINE + MARGIN.top;
  const bottom = plotTop + PLOT_HEIGHT;
  const high = points.map(({ y, spread }) => y * (1 + (spread ?? 0) / 2));
  const yScale = linearScale(high, [bottom, plotTop]);
  const { at, ticks } = xPlaces(panel, across);
  const shown = keepApart(ticks, (x) => [at(x) - widthOf(figure(x)) / 2, at(x) + widthOf(figure(x)) / 2], 4);
  return [
    ...titleIn(panel, width).map((text, index) => label(left + 4, top + 8 + index * TITLE_LINE, text)),
    label(left + 4, unitY, yLabel, "soft"),
    label(right, unitY, remark, "soft", "end"),
    ...yScale.ticks.flatMap((tick) => [
      line(across[0], yScale.at(tick), right, yScale.at(tick), tick === 0 ? "axis" : "grid"),
      label(across[0] - 8, yScale.at(tick), figure(tick), "soft", "end"),
    ]),
    ...ticks.map((x) => line(at(x), bottom, at(x), bottom + 4, "axis")),
    ...shown.map((x) => label(at(x), bottom + 13, figure(x), "soft", "middle")),
    label((across[0] + right) / 2, bottom + 32, xLabel, "soft", "middle"),
    ...pointsDrawn(panel, at, yScale),
  ];
}

/** A little room is left before the first point and behind the last one. */
function xPlaces({ points, xAxis }: Panel, [start, end]: Extent): Pick<Scale, "at" | "ticks"> {
  const xs = points.map(({ x }) => x);
  if (xAxis === "linear") return linearScale(xs, [start, end]);
  const [from, to] = [Math.min(...xs), Math.max(...xs)];
  const inner = [start + 12, end - 12] as const;
  const span = Math.log(to / from) || 1;
  return {
    at: (x) => inner[0] + ((inner[1] - inner[0]) * Math.log(x / from)) / span,
    ticks: xs,
  };
}

function pointsDrawn({ points, xAxis }: Panel, at: (x: number) => number, yScale: Scale): string[] {
  const places = points.map(({ x, y }) => `${at(x).toFixed(1)},${yScale.at(y).toFixed(1)}`);
  const content = [element("polyline", { points: places.join(" "), class: "curve" })];
  if (xAxis === "linear") return content;
  for (const { x, y, spread } of points) {
    if (spread !== null && spread > 0) {
      const [least, most] = [yScale.at(y * (1 - spread / 2)), yScale.at(y * (1 + spread / 2))];
      content.unshift(line(at(x), least, at(x), most, "whisker"));
    }
    content.push(element("circle", { cx: at(x), cy: yScale.at(y), r: 3.5, class: "good" }));
  }
  return content;
}
