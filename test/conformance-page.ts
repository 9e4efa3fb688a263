/**
 * docs/conformance/README.md: what the kept reports say, failure by failure, with how to see each. The figures come
 * from the reports, the readings are written here: one for each case that somebody fails, and none for others.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describeRule } from "../src/conformance/case.js";
import { CASES } from "../src/conformance/index.js";
import { type KeptResult, keptReport, SUBJECTS, type Subject } from "./conformance/kept-reports.js";
import { readings } from "./conformance/readings.js";
import { root } from "./vm/paths.js";

export const CONFORMANCE_PAGE = "docs/conformance/README.md";
const STATUSES = ["passed", "failed", "skipped"] as const;

export function conformancePage(): string {
  const preface = readFileSync(join(root, "test/conformance/preface.md"), "utf8");
  const { ours, peer } = SUBJECTS;
  return [
    preface.trim(),
    "",
    "## The reports",
    "",
    table([ours, peer]),
    "",
    `Each line of [${ours.name}.jsonl](bit33.jsonl) and of`,
    `[${peer.file.split("/").at(-1)}](${peer.file.split("/").at(-1)}) is a case with its result. A case is skipped where the`,
    "feature that it is about is not offered; the line says which.",
    "",
    failures(ours),
    failures(peer),
    "",
  ].join("\n");
}

function familyOf(id: string): string {
  return id.split(".")[0];
}

/** A row a family: how many passed, failed and were skipped. */
function table(subjects: readonly Subject[]): string {
  const families = [...new Set(CASES.map(({ id }) => familyOf(id)))];
  const reports = subjects.map(keptReport);
  const cell = (results: readonly KeptResult[]): string =>
    STATUSES.map((status) => results.filter((result) => result.status === status).length).join(" / ");
  const row = (name: string, fits: (id: string) => boolean): string => {
    const cells = reports.map((report) => cell(report.filter(({ id }) => fits(id))));
    return `| ${[name, String(CASES.filter(({ id }) => fits(id)).length), ...cells].join(" | ")} |`;
  };
  return [
    `| passed / failed / skipped | cases | ${subjects.map(({ name }) => name).join(" | ")} |`,
    `|---|---|${subjects.map(() => "---|").join("")}`,
    ...families.map((family) => row(family, (id) => familyOf(id) === family)),
    row("all", () => true),
  ].join("\n");
}

function failures(subject: Subject): string {
  const failed = keptReport(subject).filter(({ status }) => status === "failed");
  if (failed.length === 0) return `Nothing fails with ${subject.name}.\n`;
  return [
    `## What fails with ${subject.name}`,
    "",
    "To see a failure with the messages and packets that lead to it, with the patience of the report (put its id in place",
    "of ID):",
    "",
    "    bit33 conform --timeout 5 --pick ID --socket /tmp/c.sock --uds-path /tmp/c.vsock \\",
    `      --exec '${subject.command}'`,
    "",
    ...failed.flatMap((result) => failure(result)),
  ].join("\n");
}

function failure({ id, detail }: KeptResult): string[] {
  const one = CASES.find((candidate) => candidate.id === id);
  if (one === undefined) throw new Error(`the kept report has a case ${id} that is not there any more`);
  const reading = readings[id];
  if (reading === undefined) throw new Error(`nobody has read why ${id} fails: add it to readings.ts`);
  return [
    `### ${id}`,
    "",
    `${one.title[0].toUpperCase()}${one.title.slice(1)}.`,
    "",
    `- rule: ${describeRule(one.rule)}`,
    `- seen: ${detail}`,
    `- reading: ${reading}`,
    "",
  ];
}
