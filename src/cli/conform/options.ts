/** What `bit33 conform` was asked to do, from its command line. Must not know how a case works. */
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { ConfigError } from "../../config/errors.js";
import { DEFAULT_PATIENCE_MS, type Target } from "../../conformance/context.js";
import { optionRows } from "../help.js";
import { secondsValue, socketPathValue } from "../option-values.js";
import { type GivenOption, type OptionTable, readOptions } from "../options.js";
import { UsageError } from "../usage-error.js";

const OPTIONS = {
  socket: { argument: "PATH", help: "the back-end's vhost-user socket" },
  "uds-path": {
    argument: "PATH",
    help: "its hybrid socket, for the host's side; without it, cases that need one are skipped",
  },
  "guest-cid": { argument: "N", help: "the guest's context id, which the back-end was given (default 3)" },
  exec: {
    argument: "CMD",
    help: "start the back-end with this shell command, afresh for each case; {socket}, {uds} and {cid} are filled in",
  },
  list: { help: "print the cases and the rules behind them, and try nothing" },
  pick: {
    argument: "ID",
    repeatable: true,
    help: "only these cases; * stands for anything, as in 'rings.*'",
  },
  skip: { argument: "ID", repeatable: true, help: "not these cases" },
  cases: {
    argument: "FILE.js",
    repeatable: true,
    help: "cases of your own beside the built-in ones: a module whose default export is an array of them",
  },
  json: { help: "one JSON object a case instead of text" },
  junit: { argument: "FILE", help: "write the results there as JUnit XML, too" },
  timeout: {
    argument: "S",
    help: `how long an answer may take, in seconds (default ${DEFAULT_PATIENCE_MS / 1000})`,
  },
  help: { short: "h", help: "print this and exit" },
} as const satisfies OptionTable;
type OptionName = keyof typeof OPTIONS;

const DEFAULT_CID = 3;
const LARGEST_CID = 0xffff_fffe;
const LONGEST_TIMEOUT_S = 600;

export function conformHelp(): string {
  return [
    "bit33 conform: tries a vhost-user-vsock back-end, as its front-end and its guest, and says which rules it keeps",
    "",
    "Usage: bit33 conform --socket PATH [--uds-path PATH] [OPTION...]",
    "       bit33 conform --list [--pick ID]...",
    "",
    "Each case has a rule with its source. A case fails if the back-end breaks its rule, hangs, dies or answers",
    "garbage; it is skipped if the rule does not apply, because a feature is not offered.",
    "",
    "Options:",
    ...optionRows(OPTIONS),
    "",
    "Example:",
    "  bit33 conform --socket /tmp/c.sock --uds-path /tmp/c.vsock \\",
    "    --exec 'vhost-device-vsock --vm guest-cid={cid},socket={socket},uds-path={uds}'",
    "",
    "Exit status: 0 if no case failed, 1 if one did or the run was ended early, 2 if the command line has to be changed.",
  ].join("\n");
}

export interface ConformRequest {
  /** Undefined: only list. */
  readonly target: Target | undefined;
  readonly command: string | undefined;
  readonly pick: readonly GivenOption<string>[];
  readonly skip: readonly GivenOption<string>[];
  readonly files: readonly GivenOption<string>[];
  readonly json: boolean;
  readonly junit: string | undefined;
}

/** Throws an OperatorError for the first thing that is wrong. */
export function readConformRequest(argv: readonly string[]): ConformRequest {
  const given = readOptions(argv, OPTIONS);
  const all = (name: OptionName): GivenOption<OptionName>[] => given.filter((option) => option.name === name);
  const find = (name: OptionName): GivenOption<OptionName> | undefined => all(name).at(0);
  return {
    target: find("list") === undefined ? readTarget(find) : undefined,
    command: nonEmpty(find("exec")),
    pick: all("pick"),
    skip: all("skip"),
    files: all("cases"),
    json: find("json") !== undefined,
    junit: checkedFile(find("junit")),
  };
}

function readTarget(find: (name: OptionName) => GivenOption<OptionName> | undefined): Target {
  const socket = find("socket");
  if (socket === undefined) {
    const problem =
      "no back-end is named; give --socket PATH, or --list to see the cases (conform --help explains it)";
    throw new UsageError("option-needs-value", problem);
  }
  const uds = find("uds-path");
  const timeout = find("timeout");
  return {
    socketPath: socketPathValue(socket),
    udsPath: uds === undefined ? undefined : socketPathValue(uds),
    guestCid: readCid(find("guest-cid")),
    patienceMs: timeout === undefined ? DEFAULT_PATIENCE_MS : secondsValue(timeout, LONGEST_TIMEOUT_S),
  };
}

function nonEmpty(option: GivenOption<OptionName> | undefined): string | undefined {
  if (option === undefined || option.value.trim() !== "") return option?.value;
  throw new UsageError("option-needs-value", `${option.typed} is empty; give a shell command`);
}

function checkedFile(option: GivenOption<OptionName> | undefined): string | undefined {
  if (option === undefined) return undefined;
  if (option.value === "")
    throw new ConfigError("value-missing", option.typed, "the path is empty; give a file name");
  const folder = dirname(option.value);
  if (existsSync(folder)) return option.value;
  throw new ConfigError("directory-missing", option.typed, `there is no directory ${folder}; create it`);
}

function readCid(option: GivenOption<OptionName> | undefined): number {
  if (option === undefined) return DEFAULT_CID;
  const cid = Number(option.value);
  if (/^\d+$/.test(option.value) && cid > 2 && cid <= LARGEST_CID) return cid;
  const problem = `${JSON.stringify(option.value)} is no guest's context id; use 3 to ${LARGEST_CID}`;
  throw new ConfigError("value-malformed", option.typed, problem);
}
