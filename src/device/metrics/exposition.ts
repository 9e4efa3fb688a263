/**
 * A page of metrics in Prometheus' text exposition format 0.0.4: every metric once, with HELP and TYPE before its
 * samples. Must not know what the metrics mean (`instruments.ts`) or who serves the page.
 */
import type { VmReport } from "./figures.js";
import {
  DEVICE_INSTRUMENTS,
  type Instrument,
  type Labels,
  PROGRAM_INSTRUMENTS,
  type ProgramFigures,
  type Sample,
  VM_INSTRUMENTS,
} from "./instruments.js";

export const EXPOSITION_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export function metricsPage(program: ProgramFigures, reports: readonly VmReport[]): string {
  const lines: string[] = [];
  for (const [name, instrument] of Object.entries(PROGRAM_INSTRUMENTS)) {
    addMetric(lines, name, instrument, instrument.samples(program));
  }
  for (const [name, instrument] of Object.entries(VM_INSTRUMENTS)) {
    const samples = reports.flatMap((report) => ofVm(report.cid, instrument.samples(report)));
    addMetric(lines, name, instrument, samples);
  }
  for (const [name, instrument] of Object.entries(DEVICE_INSTRUMENTS)) {
    const samples = reports.flatMap(({ cid, figures }) =>
      figures === undefined ? [] : ofVm(cid, instrument.samples(figures)),
    );
    addMetric(lines, name, instrument, samples);
  }
  return `${lines.join("\n")}\n`;
}

function ofVm(cid: number, samples: readonly Sample[]): Sample[] {
  return samples.map((sample) => ({ ...sample, labels: { vm: String(cid), ...sample.labels } }));
}

/** A metric without samples is left out: its HELP alone says nothing. */
function addMetric(
  lines: string[],
  name: string,
  { help, type }: Instrument,
  samples: readonly Sample[],
): void {
  if (samples.length === 0) return;
  lines.push(`# HELP ${name} ${escaped(help)}`, `# TYPE ${name} ${type}`);
  for (const { suffix = "", labels, value } of samples) {
    lines.push(`${name}${suffix}${labelText(labels)} ${valueText(value)}`);
  }
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${escaped(value).replaceAll('"', '\\"')}"`,
  );
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

/** "HELP lines may contain any sequence of UTF-8 characters, but the backslash and the line feed have to be escaped." */
function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

function valueText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  return String(value);
}
