/**
 * `node build/bench/report.js [RESULTS.jsonl...] [--write FOLDER]`: makes the tables and charts of docs/performance.md from
 * the lines that the programs of this folder print.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { root } from "../test/vm/paths.js";
import { type LineFile, ReportError, readResults } from "./report-lines.js";
import { CHARTS, makeReport, PAGE, type Report, replaceGenerated } from "./report-page.js";

const USAGE = `node build/bench/report.js [RESULTS.jsonl...] [options]
  --write FOLDER    puts the tables into FOLDER/${PAGE}, between its two markers, and the charts beside it;
                    otherwise the tables are printed
Without a file: all of bench/results/, which is what docs/${PAGE} has to be made from.`;

export const RESULTS_FOLDER = join(root, "bench/results");

/** The results that are kept in the repository. */
export function keptResults(): string[] {
  return readdirSync(RESULTS_FOLDER)
    .filter((name) => name.endsWith(".jsonl"))
    .sort()
    .map((name) => join(RESULTS_FOLDER, name));
}

/** The files are called by their last name, so that the report is the same wherever they lie. */
export function reportOf(paths: readonly string[]): Report {
  const files = paths.map((path): LineFile => ({ name: basename(path), text: readFileSync(path, "utf8") }));
  return makeReport(readResults(files));
}

/** Leaves no chart behind that the report does not have. */
export function writeReport({ text, charts }: Report, folder: string): void {
  const page = join(folder, PAGE);
  writeFileSync(page, replaceGenerated(readFileSync(page, "utf8"), text));
  for (const name of CHARTS) {
    const svg = charts.get(name);
    if (svg === undefined) rmSync(join(folder, name), { force: true });
    else writeFileSync(join(folder, name), svg);
  }
}

function main(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { write: { type: "string" }, help: { type: "boolean", default: false } },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const report = reportOf(positionals.length === 0 ? keptResults() : positionals);
  if (values.write === undefined) console.log(report.text);
  else writeReport(report, values.write);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    main();
  } catch (error) {
    if (!(error instanceof ReportError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
