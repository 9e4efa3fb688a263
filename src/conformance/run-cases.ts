/**
 * Runs cases one after the other, each on fresh sessions and in bounded time, and says what came of each. A back-end
 * that hangs, dies or answers garbage costs the case that met it, and the run goes on. Must not know any case, nor how
 * a result is printed.
 */
import { setTimeout as delay } from "node:timers/promises";
import { FrontEndError } from "../vhost/front-end-error.js";
import { BackendProcess } from "./backend-process.js";
import type { ConformanceCase } from "./case.js";
import { askOffer, CaseContext, type Offer, type Target } from "./context.js";
import { missing } from "./needs.js";
import { CaseFailed, type CaseResult } from "./outcome.js";

export interface RunOptions {
  readonly target: Target;
  /** A shell command that starts the back-end, afresh for each case: none pays for what another did. */
  readonly command?: string | undefined;
  /** Called as each case ends. */
  readonly onResult?: (result: CaseResult) => void;
  /** Ends the run after the case that runs. */
  readonly signal?: AbortSignal | undefined;
}

/** How long a case may take that says nothing about it. */
export const DEFAULT_LIMIT_MS = 20_000;
/** Between a connection that ends and the news that its process did. */
const DYING_MS = 200;
/** The same behind a case that passed: some die of a front-end that leaves. */
const LEAVING_MS = 20;
/** How much of a failed case's session is shown. */
const SHOWN_LINES = 16;

/** Runs them in order. Never throws for anything that a back-end does. */
export async function runCases(
  cases: readonly ConformanceCase[],
  options: RunOptions,
): Promise<CaseResult[]> {
  const run = new Run(options);
  const results: CaseResult[] = [];
  try {
    for (const one of cases) {
      if (options.signal?.aborted === true) break;
      const result = await run.run(one);
      results.push(result);
      options.onResult?.(result);
    }
  } finally {
    await run.end();
  }
  return results;
}

type Verdict = Pick<CaseResult, "status" | "detail" | "seen">;

class Run {
  readonly #target: Target;
  readonly #process: BackendProcess | undefined;
  #offer: Offer | undefined;

  constructor({ target, command }: RunOptions) {
    this.#target = target;
    this.#process = command === undefined ? undefined : new BackendProcess(command, target);
  }

  async run(one: ConformanceCase): Promise<CaseResult> {
    const startedMs = performance.now();
    const verdict = await this.#verdict(one);
    return { case: one, ...verdict, tookMs: performance.now() - startedMs };
  }

  async #verdict(one: ConformanceCase): Promise<Verdict> {
    try {
      await this.#process?.ensure();
      this.#offer ??= await askOffer(this.#target);
    } catch (error) {
      const detail = `the back-end cannot be asked what it offers: ${describe(error)}`;
      await this.#process?.stop();
      return { status: "failed", detail, seen: [] };
    }
    const lack = missing(one.needs, this.#offer, this.#target);
    if (lack !== undefined) return { status: "skipped", detail: lack, seen: [] };
    const verdict = await this.#tried(one, this.#offer);
    return this.#withDeath(verdict);
  }

  async #tried(one: ConformanceCase, offer: Offer): Promise<Verdict> {
    const limitMs = one.limitMs ?? DEFAULT_LIMIT_MS;
    const context = new CaseContext(this.#target, offer, limitMs, async () => this.#process?.ensure());
    try {
      await within(one.run(context), limitMs);
      return { status: "passed", detail: "", seen: [] };
    } catch (error) {
      if (isNamed(error, "CaseSkipped")) return { status: "skipped", detail: error.message, seen: [] };
      return { status: "failed", detail: describe(error), seen: context.evidence.last(SHOWN_LINES) };
    } finally {
      context.close();
    }
  }

  /** A process that a case has killed fails it, whatever else it did. */
  async #withDeath(verdict: Verdict): Promise<Verdict> {
    const death = await this.#process?.death(verdict.status === "failed" ? DYING_MS : LEAVING_MS);
    await this.#process?.stop();
    if (death === undefined) return verdict;
    const detail = verdict.status === "failed" ? `${verdict.detail}; ${death}` : death;
    return { ...verdict, status: "failed", detail };
  }

  async end(): Promise<void> {
    await this.#process?.stop();
  }
}

/** A case that waits for something of its own is left behind; what it does later meets a closed context. */
async function within(running: void | Promise<void>, limitMs: number): Promise<void> {
  const timer = new AbortController();
  const late = delay(limitMs, undefined, { signal: timer.signal }).then(() => {
    throw new CaseFailed(`the case was not through after ${limitMs} ms`);
  });
  late.catch(() => {});
  try {
    await Promise.race([running, late]);
  } finally {
    timer.abort();
    Promise.resolve(running).catch(() => {});
  }
}

/** By name: a case may come with a copy of this kit of its own. */
function isNamed(error: unknown, name: "CaseFailed" | "CaseSkipped"): error is Error {
  return error instanceof Error && error.name === name;
}

function describe(error: unknown): string {
  if (isNamed(error, "CaseFailed")) return error.message;
  if (error instanceof FrontEndError) return `${error.message} (${error.code})`;
  if (!(error instanceof Error)) return String(error);
  const place =
    error.stack
      ?.split("\n")
      .find((line) => /^\s+at /.test(line))
      ?.trim() ?? "";
  return `${error.message} (${error.name} ${place})`;
}
