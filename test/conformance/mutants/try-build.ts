/**
 * Tries a copy of the build as anybody tries a back-end: `bit33 conform` of the build itself, against `bit33 serve` of the
 * copy, in processes of their own. Must not know mutants, nor what is expected of them.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { CASES } from "../../../src/conformance/index.js";
import type { CaseResult } from "../../../src/conformance/outcome.js";
import { root } from "../../vm/paths.js";
import type { BuildCopy } from "./mutant.js";

/** A line of `bit33 conform --json`, as far as it is looked at here. */
export interface TriedCase {
  readonly id: string;
  readonly status: CaseResult["status"];
  readonly detail: string;
}

/** How long an answer may take: each mutant that leaves something undone costs as much. */
const PATIENCE_SECONDS = 3;
/** A case is bounded by itself; this is for a kit that is not. */
const LIMIT_MS_A_CASE = 30_000;

/** Runs these cases (all without any), each with a fresh process of the copy. */
export async function tryBuild(
  { folder, program }: BuildCopy,
  ids: readonly string[] = [],
): Promise<TriedCase[]> {
  const serve = "serve --guest-cid {cid} --socket {socket} --uds-path {uds} --log-level error";
  const argv = [
    join(root, "build/src/cli/main.js"),
    "conform",
    "--json",
    ...["--timeout", String(PATIENCE_SECONDS)],
    ...["--socket", join(folder, "s"), "--uds-path", join(folder, "u")],
    ...["--exec", `exec ${process.execPath} ${program} ${serve}`],
    ...ids.flatMap((id) => ["--pick", id]),
  ];
  const child = spawn(process.execPath, argv, {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: LIMIT_MS_A_CASE * (ids.length > 0 ? ids.length : CASES.length),
    killSignal: "SIGKILL",
  });
  const [printed, said] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  const results = printed
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as TriedCase);
  if (results.length === 0) throw new Error(`bit33 conform has tried nothing: ${said}`);
  return results;
}
