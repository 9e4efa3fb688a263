/**
 * `bit33 observe`: plays back-ends to a real front-end, prints what it did, and writes the VMM profile that follows
 * from it. Must not know how a session goes or what decides a field; see src/observe.
 */
import { writeFileSync } from "node:fs";
import { ConfigError } from "../config/errors.js";
import { claimSocket, releaseSocket } from "../device/claim-socket.js";
import { EventLoop } from "../linux/event-loop.js";
import type { SessionFacts } from "../observe/facts.js";
import { findingsOf } from "../observe/findings.js";
import { ObservationError, observe } from "../observe/observe.js";
import { type ObservedProfile, observedProfile, writeObserved } from "../observe/observed-profile.js";
import { type ObserveRequest, observeHelp, readObserveRequest } from "./observe/options.js";
import { beginLine, endLine, evidenceJson, sessionJson, table } from "./observe/report.js";
import { hasSwitch } from "./options.js";
import { waitForStopSignal } from "./signals.js";
import { EXIT_FAILURE, EXIT_OK, processTerminal, reportFailure, type Terminal } from "./terminal.js";
import { packageVersion } from "./version.js";

export async function observeCommand(
  argv: readonly string[],
  terminal: Terminal = processTerminal,
): Promise<number> {
  if (hasSwitch(argv, "--help", "-h")) {
    terminal.print(observeHelp());
    return EXIT_OK;
  }
  try {
    const request = readObserveRequest(argv);
    const ending = new AbortController();
    void waitForStopSignal().then((signal) => {
      ending.abort(new ObservationError(`ended by ${signal} before all sessions were played`));
    });
    return await observation(request, terminal, ending.signal);
  } catch (error) {
    if (!(error instanceof ObservationError)) return reportFailure(error, terminal);
    terminal.complain(`bit33: ${error.message}`);
    return EXIT_FAILURE;
  }
}

async function observation(
  request: ObserveRequest,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<number> {
  // Standard output is for what was asked for: the profile or the records, if they go there.
  const hasResult = request.json || request.out === undefined;
  const tell = hasResult ? terminal.complain : terminal.print;
  const socket = claimSocket(request.socketPath);
  const loop = new EventLoop();
  try {
    const all = await observe({
      listener: socket.fd,
      loop,
      command: request.command,
      viommuCommand: request.viommuCommand,
      timeoutMs: request.timeoutMs,
      signal,
      onBegin: (play, number, of) => {
        tell(beginLine(play, number, of));
        if (request.command === undefined) tell(`  start the front-end now: it connects to ${socket.path}`);
      },
      onEnd: (facts) => tell(endLine(facts)),
    });
    tell(`\n${table(all)}\n`);
    return conclude(all, request, terminal);
  } finally {
    releaseSocket(socket);
    loop.close();
  }
}

function conclude(all: readonly SessionFacts[], request: ObserveRequest, terminal: Terminal): number {
  const { base, out, json } = request;
  const observed = observedProfile(findingsOf(all, base), headingOf(request, all.length), base);
  if (json) {
    for (const facts of all) terminal.print(sessionJson(facts));
    for (const evidence of observed.evidence) terminal.print(evidenceJson(evidence));
  }
  if (json && out === undefined) return EXIT_OK;
  const text = written(observed, request);
  if (out === undefined) {
    terminal.print(text.trimEnd());
    return EXIT_OK;
  }
  try {
    writeFileSync(out, text);
  } catch (error) {
    throw new ObservationError(`the profile cannot be written: ${(error as Error).message}`);
  }
  terminal.complain(`wrote ${out}`);
  return EXIT_OK;
}

function headingOf({ name, command }: ObserveRequest, sessions: number) {
  const program =
    command
      ?.trim()
      .replace(/^exec\s+/, "")
      .split(/\s+/)[0] ?? "a vhost-user front-end";
  return {
    name,
    program,
    summary: `as observed in ${sessions} sessions; the comments say what each field rests on`,
    source: [command ?? "started by hand"],
  };
}

function written(observed: ObservedProfile, { base }: ObserveRequest): string {
  const date = new Date().toISOString().slice(0, 10);
  const preface = [`Observed by bit33 ${packageVersion()} on ${date}. Sessions are those of that run.`];
  try {
    return writeObserved(observed, preface);
  } catch (error) {
    if (!(error instanceof ConfigError) || base === undefined) throw error;
    throw new ObservationError(
      `what was seen and what ${base.name} says contradict each other: ${error.message}; leave --base out`,
    );
  }
}
