/**
 * What docs/performance.md says between its two markers, and the charts beside it. Must not know where results come from,
 * nor what is written around the markers.
 */
import { curvesChart, curvesOf, soakChart } from "./chart-curves.js";
import { ratiosChart } from "./chart-ratios.js";
import type { Results } from "./report-lines.js";
import {
  curveTables,
  machinesTable,
  siblingsTable,
  soakText,
  translationTable,
  translationTimeTable,
} from "./report-other-tables.js";
import { barsTable, busyTable, figuresTable, statedTable, summary } from "./report-tables.js";
import { judge } from "./report-verdict.js";

export const PAGE = "performance.md";
/** What the report may write beside the page. One that has nothing to show is not there. */
export const CHARTS = ["performance-ratios.svg", "performance-curves.svg", "performance-soak.svg"] as const;
export type ChartName = (typeof CHARTS)[number];

export interface Report {
  /** What stands between the markers. */
  readonly text: string;
  readonly charts: ReadonlyMap<ChartName, string>;
}

const BEGIN =
  "<!-- From here on made by bench/report.ts from bench/results/: edit neither line nor what is between. -->";
const END = "<!-- What is made ends here. -->";

export function makeReport(results: Results): Report {
  const { machines, records, translation, siblings, soakSamples, soakEnd } = results;
  const judged = judge(records);
  const curves = curvesOf(results.curves);
  const charts = new Map<ChartName, string>();
  const parts = [
    "### On what",
    machinesTable(machines),
    "### Against the bars",
    summary(judged, [
      { works: "translation", records: translation },
      { works: "siblings", records: siblings.filter(({ setting }) => setting === "default") },
    ]),
    "Figures are those with default buffers; a ratio is the median of the rounds' ratios, not the ratio of the medians.",
  ];
  const subtitle = subtitleOf(machines);
  const chart = (name: ChartName, svg: string, alt: string): void => {
    charts.set(name, svg);
    parts.push(`![${alt}](${name})`);
  };
  const peer = machines.find(({ machine }) => machine.peer !== null)?.machine.peer ?? "the peer";
  if (records.length > 0)
    chart(
      "performance-ratios.svg",
      ratiosChart({ judged, peer, subtitle }),
      `Bars, a row each: how many times ${peer} our device does, and how many times bare sockets, with the bar of each row. The table below has the same figures.`,
    );
  parts.push(barsTable(judged));
  const stated = statedTable(judged);
  if (stated !== undefined) parts.push("### Stated, without a bar", stated);
  parts.push(
    "### Every figure, and how far the rounds lie apart",
    "Spread: (largest − smallest) ÷ median over the rounds. Left out: rounds in which something else took a quarter of a processor or more.",
    figuresTable(judged),
    "### Who was busy",
    "CPU time of each process over the time measured: 100 % is one processor, all of the time.",
    busyTable(judged),
    "### Translation",
    ...(translation.length === 0
      ? [NOT_MEASURED]
      : [translationTable(translation), TIME_HEAD, translationTimeTable(translation)]),
    "### Guest to guest",
    siblings.length === 0 ? NOT_MEASURED : siblingsTable(siblings),
    "### As work grows",
  );
  if (curves.length === 0) parts.push(NOT_MEASURED);
  else {
    chart(
      "performance-curves.svg",
      curvesChart(curves, subtitle),
      "Small charts, a curve each: what a piece of work costs as there is more of something. The tables below have the same figures.",
    );
    parts.push(curveTables(curves));
  }
  parts.push("### A soak");
  if (soakEnd === undefined) parts.push(NOT_MEASURED);
  else {
    if (soakSamples.length > 0)
      chart(
        "performance-soak.svg",
        soakChart(soakSamples, subtitle),
        "Small charts: memory and descriptors of the device over the minutes of the soak. The table below has what decides.",
      );
    parts.push(soakText(soakEnd));
  }
  return { text: parts.join("\n\n"), charts };
}

const NOT_MEASURED = "Not measured.";
const TIME_HEAD =
  "Where the time goes, as shares of it; a miss that is answered while the guest waits for unmapping counts there.";

/** What a chart has to say by itself, as it may be shown without its page. */
function subtitleOf(machines: Results["machines"]): string {
  const [first] = machines;
  const notes = [...new Set(machines.flatMap(({ machine }) => machine.note ?? []))];
  if (first === undefined) return "";
  const { cores, cpu, date } = first.machine;
  return `${[`${cores} × ${cpu}`, date.slice(0, 10), ...notes].join("; ")}.`;
}

/** The page with its generated part replaced. Throws if it has not exactly one. */
export function replaceGenerated(page: string, text: string): string {
  const { before, after } = cut(page);
  return `${before}${BEGIN}\n\n${text}\n\n${END}${after}`;
}

export function generatedPart(page: string): string {
  return cut(page).between.trim();
}

function cut(page: string): { readonly before: string; readonly between: string; readonly after: string } {
  const [before, rest, ...moreBegins] = page.split(BEGIN);
  const [between, after, ...moreEnds] = (rest ?? "").split(END);
  if (rest === undefined || after === undefined || moreBegins.length > 0 || moreEnds.length > 0)
    throw new Error(`${PAGE} has to have the line ${BEGIN} and behind it the line ${END}, once each`);
  return { before, between, after };
}
