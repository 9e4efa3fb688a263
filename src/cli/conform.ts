/**
 * `bit33 conform`: tries a vhost-user-vsock back-end against the rules, case by case. Must not know any case, nor how
 * one is run; see src/conformance.
 */
import { writeFileSync } from "node:fs";
import { ConfigError } from "../config/errors.js";
import type { CaseResult } from "../conformance/outcome.js";
import { runCases } from "../conformance/run-cases.js";
import { loadCases } from "./conform/cases.js";
import { conformHelp, readConformRequest } from "./conform/options.js";
import { junit, listing, resultJson, resultText, summary } from "./conform/report.js";
import { hasSwitch } from "./options.js";
import { waitForStopSignal } from "./signals.js";
import { EXIT_FAILURE, EXIT_OK, processTerminal, reportFailure, type Terminal } from "./terminal.js";

export async function conformCommand(
  argv: readonly string[],
  terminal: Terminal = processTerminal,
): Promise<number> {
  if (hasSwitch(argv, "--help", "-h")) {
    terminal.print(conformHelp());
    return EXIT_OK;
  }
  try {
    const request = readConformRequest(argv);
    const cases = await loadCases(request);
    if (request.target === undefined) {
      terminal.print(listing(cases, request.json));
      return EXIT_OK;
    }
    const ending = new AbortController();
    void waitForStopSignal().then(() => ending.abort());
    const results = await runCases(cases, {
      target: request.target,
      command: request.command,
      signal: ending.signal,
      onResult: (result) => terminal.print(request.json ? resultJson(result) : resultText(result)),
    });
    const say = request.json ? terminal.complain : terminal.print;
    say(summary(results, cases.length));
    if (request.junit !== undefined) writeJunit(request.junit, results);
    return isConforming(results, cases.length) ? EXIT_OK : EXIT_FAILURE;
  } catch (error) {
    return reportFailure(error, terminal);
  }
}

/** Nothing failed, and nothing was left out because somebody ended the run. */
function isConforming(results: readonly CaseResult[], count: number): boolean {
  return results.length === count && results.every(({ status }) => status !== "failed");
}

function writeJunit(file: string, results: readonly CaseResult[]): void {
  try {
    writeFileSync(file, junit(results));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError("file-unwritable", "--junit", `${file} cannot be written (${reason})`, { cause });
  }
}
