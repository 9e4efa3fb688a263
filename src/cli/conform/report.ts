/** How cases and their results look: text, JSON, JUnit. Must not know how they came about. */
import { type ConformanceCase, describeRule } from "../../conformance/case.js";
import type { CaseResult } from "../../conformance/outcome.js";

const MARKS = { passed: "ok  ", failed: "FAIL", skipped: "skip" } as const;

export function resultText({ case: one, status, detail, seen, tookMs }: CaseResult): string {
  const lines = [`${MARKS[status]}  ${one.id}  ${one.title}`];
  if (status === "skipped") lines.push(`        ${detail}`);
  if (status !== "failed") return lines.join("\n");
  lines.push(`        ${detail} (after ${Math.round(tookMs)} ms)`, `        rule: ${describeRule(one.rule)}`);
  if (seen.length > 0) lines.push("        what was seen last:", ...seen.map((line) => `          ${line}`));
  return lines.join("\n");
}

export function resultJson({ case: one, status, detail, seen, tookMs }: CaseResult): string {
  const { id, title, rule } = one;
  return JSON.stringify({ id, status, detail, title, rule, seen, tookMs: Math.round(tookMs) });
}

/** The last line. */
export function summary(results: readonly CaseResult[], count: number): string {
  const of = (status: CaseResult["status"]): number =>
    results.filter((result) => result.status === status).length;
  const parts = [`${of("passed")} passed`, `${of("failed")} failed`, `${of("skipped")} skipped`];
  if (results.length < count) parts.push(`${count - results.length} not tried: the run was ended`);
  return parts.join(", ");
}

export function listing(cases: readonly ConformanceCase[], asJson: boolean): string {
  if (asJson) {
    return cases.map(({ id, title, rule, needs }) => JSON.stringify({ id, title, rule, needs })).join("\n");
  }
  return cases.map((one) => `${one.id}\n    ${one.title}\n    ${describeRule(one.rule)}`).join("\n");
}

/** JUnit's XML as CI systems read it: a suite a family. */
export function junit(results: readonly CaseResult[]): string {
  const families = [...new Set(results.map(familyOf))];
  const suites = families.map((family) =>
    suiteXml(
      family,
      results.filter((result) => familyOf(result) === family),
    ),
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n${suites.join("")}</testsuites>\n`;
}

function familyOf({ case: one }: CaseResult): string {
  return one.id.split(".")[0];
}

function suiteXml(family: string, results: readonly CaseResult[]): string {
  const of = (status: CaseResult["status"]): number =>
    results.filter((result) => result.status === status).length;
  const head = `name="${xml(family)}" tests="${results.length}" failures="${of("failed")}" skipped="${of("skipped")}"`;
  return `  <testsuite ${head}>\n${results.map(caseXml).join("")}  </testsuite>\n`;
}

function caseXml(result: CaseResult): string {
  const { case: one, status, detail, seen, tookMs } = result;
  const head = `classname="${xml(familyOf(result))}" name="${xml(one.id)}" time="${(tookMs / 1000).toFixed(3)}"`;
  if (status === "passed") return `    <testcase ${head}/>\n`;
  if (status === "skipped") return `    <testcase ${head}><skipped message="${xml(detail)}"/></testcase>\n`;
  const body = [describeRule(one.rule), ...seen].join("\n");
  return `    <testcase ${head}><failure message="${xml(detail)}">${xml(body)}</failure></testcase>\n`;
}

function xml(text: string): string {
  const plain = [...text].map((char) => (char < " " && char !== "\n" ? "�" : char)).join("");
  return plain.replace(/[<>&"]/g, (char) => `&#${char.charCodeAt(0)};`);
}
