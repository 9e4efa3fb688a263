/**
 * The kept conformance reports, docs/conformance/*.jsonl: where they are, what a line of them holds, and against what
 * they are made. Must not know what a case is about.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { CaseResult } from "../../src/conformance/outcome.js";
import { peerCrate, peerProgram } from "../peers/paths.js";
import { root } from "../vm/paths.js";

/** A case's result, without what differs from run to run. */
export interface KeptResult {
  readonly id: string;
  readonly status: CaseResult["status"];
  readonly detail: string;
}

export interface Subject {
  /** As readers know it. */
  readonly name: string;
  /** Below the root. */
  readonly file: string;
  /** How a reader starts it. */
  readonly command: string;
  /** How it is started here. */
  readonly localCommand: string;
}

const FOLDER = "docs/conformance";
const OURS = "serve --guest-cid {cid} --socket {socket} --uds-path {uds} --log-level warn";
const THEIRS = "--vm guest-cid={cid},socket={socket},uds-path={uds}";

export const SUBJECTS: { readonly ours: Subject; readonly peer: Subject } = {
  ours: {
    name: "bit33",
    file: `${FOLDER}/bit33.jsonl`,
    command: `exec bit33 ${OURS}`,
    localCommand: `exec ${process.execPath} ${join(root, "build/src/cli/main.js")} ${OURS}`,
  },
  peer: {
    name: `${peerCrate.name} ${peerCrate.version}`,
    file: `${FOLDER}/${peerCrate.name}-${peerCrate.version}.jsonl`,
    command: `exec ${peerCrate.name} ${THEIRS}`,
    localCommand: `exec ${peerProgram} ${THEIRS}`,
  },
};

/** Ports and times are other ones in each run. */
export function kept({ case: { id }, status, detail }: CaseResult): KeptResult {
  return { id, status, detail: detail.replace(/\bport \d+/g, "port N") };
}

export function keptReport({ file }: Subject): KeptResult[] {
  const text = readFileSync(join(root, file), "utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as KeptResult);
}

/** What is compared: the reason of a failure may differ in words that depend on timing. */
export function verdict({ id, status }: KeptResult): string {
  return `${id} ${status}`;
}

export function verdicts(results: readonly KeptResult[]): string[] {
  return results.map(verdict);
}
