/**
 * `bit33 ctl`: asks a running `bit33 serve --control PATH` which VMs it serves, and has it add or remove one.
 * Must not know how requests are obeyed; what is said is in serve/control-protocol.ts.
 */
import { createConnection } from "node:net";
import { resolve } from "node:path";
import { ConfigError, StartError } from "../config/errors.js";
import { didYouMean } from "../config/suggest.js";
import { isSettingKey } from "../device/config/settings.js";
import { readNumber } from "../device/config/values.js";
import type { VmReport } from "../device/metrics/figures.js";
import { optionRows } from "./help.js";
import { type GivenOption, hasSwitch, type OptionTable, readOptions } from "./options.js";
import {
  COMMANDS,
  type ControlAnswer,
  type ControlRequest,
  type ListedVm,
} from "./serve/control-protocol.js";
import { SINGLE_VM_OPTIONS } from "./serve-options.js";
import { EXIT_OK, EXIT_USAGE, processTerminal, reportFailure, type Terminal } from "./terminal.js";
import { UsageError } from "./usage-error.js";

const COMMON_OPTIONS = {
  control: { argument: "PATH", help: "the control socket that bit33 serve was given" },
  json: { help: "print the answer as it came, one JSON object" },
  help: { short: "h", help: "print this and exit" },
} as const satisfies OptionTable;

const CID_OPTION: OptionTable = { "guest-cid": { argument: "CID", help: "which VM" } };

type CommandName = (typeof COMMANDS)[number];

const OPTIONS_OF: Readonly<Record<CommandName, OptionTable>> = {
  list: {},
  stats: CID_OPTION,
  remove: CID_OPTION,
  add: SINGLE_VM_OPTIONS,
};

/** Settings that are paths: they are meant from here, not from where the other process runs. */
const PATH_KEYS: readonly string[] = ["socket", "uds-path"];

export async function ctlCommand(
  argv: readonly string[],
  terminal: Terminal = processTerminal,
): Promise<number> {
  if (hasSwitch(argv, "--help", "-h")) {
    terminal.print(ctlHelp());
    return EXIT_OK;
  }
  try {
    return await ctl(argv, terminal);
  } catch (error) {
    return reportFailure(error, terminal);
  }
}

async function ctl([name, ...rest]: readonly string[], terminal: Terminal): Promise<number> {
  const command = COMMANDS.find((each) => each === name);
  if (command === undefined) {
    const hint = name === undefined ? "" : didYouMean(name, COMMANDS);
    const said = name === undefined ? "no command is given" : `unknown command ${JSON.stringify(name)}`;
    throw new UsageError("command-unknown", `${said}${hint || `; give one of ${COMMANDS.join(", ")}`}`);
  }
  const given = readOptions(rest, { ...COMMON_OPTIONS, ...OPTIONS_OF[command] });
  const control = given.find((option) => option.name === "control");
  if (control === undefined) {
    throw new ConfigError("key-missing", "--control", "is missing; give the path that bit33 serve was given");
  }
  const answer = await ask(control.value, requestOf(command, given));
  if (given.some((option) => option.name === "json")) terminal.print(JSON.stringify(answer));
  else if (answer.ok) terminal.print(textOf(command, answer));
  if (answer.ok) return EXIT_OK;
  const place = answer.where === "" ? "" : `${answer.where}: `;
  terminal.complain(`bit33: ${place}${answer.message}`);
  return EXIT_USAGE;
}

function requestOf(command: CommandName, given: readonly GivenOption<string>[]): ControlRequest {
  if (command === "list") return { command };
  if (command === "add") {
    const vm: Record<string, string | string[]> = {};
    for (const { name, value } of given) {
      if (!isSettingKey(name)) continue;
      const text = PATH_KEYS.includes(name) ? resolve(value) : withPathResolved(value);
      const texts = vm[name];
      vm[name] = texts === undefined ? text : [texts, text].flat();
    }
    return { command, vm };
  }
  const option = given.find(({ name }) => name === "guest-cid");
  const cid = option && readNumber({ text: option.value, place: option.typed });
  if (command === "stats") return cid === undefined ? { command } : { command, cid };
  if (cid === undefined) throw new ConfigError("key-missing", "--guest-cid", "is missing; say which VM");
  return { command, cid };
}

/** `80=unix:web` and `unix:web=80` have paths, too. (What follows the path stays where it is.) */
function withPathResolved(text: string): string {
  return text.replace(/^((?:\d+=)?unix:)(.+)$/s, (_, start: string, path: string) => start + resolve(path));
}

/** Sends one request and returns the answer. */
function ask(path: string, request: ControlRequest): Promise<ControlAnswer> {
  return new Promise((resolvePromise, reject) => {
    const fail = (problem: string, cause?: unknown) =>
      reject(new StartError("control-unreachable", path, problem, { cause }));
    const socket = createConnection({ path });
    let text = "";
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on("data", (more: string) => {
      text += more;
      const end = text.indexOf("\n");
      if (end < 0) return;
      socket.destroy();
      resolvePromise(JSON.parse(text.slice(0, end)) as ControlAnswer);
    });
    socket.on("error", (error) =>
      fail(`cannot reach bit33 serve there (${error.message}); is it running with --control?`, error),
    );
    socket.on("close", () => fail("the connection was closed before an answer came"));
  });
}

function textOf(command: CommandName, answer: ControlAnswer & { readonly ok: true }): string {
  if ("vms" in answer) return listText(answer.vms);
  if ("reports" in answer) return answer.reports.map(reportText).join("\n") || "no VM is served";
  if ("vm" in answer) return `added ${vmText(answer.vm)}`;
  return command === "remove" ? "removed" : "done";
}

function listText(vms: readonly ListedVm[]): string {
  return vms.length === 0 ? "no VM is served" : vms.map(vmText).join("\n");
}

function vmText({ cid, socket, udsPath, iotlb }: ListedVm): string {
  return `vm=${cid} socket=${socket ?? "inherited"} uds-path=${udsPath} iotlb=${iotlb}`;
}

function reportText({ cid, figures, process, restarts }: VmReport): string {
  const own = process === undefined ? "" : ` pid=${process.pid} restarts=${restarts}`;
  if (figures === undefined) return `vm=${cid} does not answer${own}`;
  const { vsock, connections, sessions, mode } = figures;
  return (
    `vm=${cid} mode=${mode} sessions=${sessions} connections=${connections}` +
    ` from-guest=${vsock.fromGuestBytes}B/${vsock.fromGuestPackets}` +
    ` to-guest=${vsock.toGuestBytes}B/${vsock.toGuestPackets}${own}`
  );
}

function ctlHelp(): string {
  return [
    "bit33 ctl: asks a running bit33 serve about its VMs, adds one, or removes one",
    "",
    "Usage: bit33 ctl list   --control PATH [--json]",
    "       bit33 ctl stats  --control PATH [--guest-cid CID] [--json]",
    "       bit33 ctl remove --control PATH --guest-cid CID",
    "       bit33 ctl add    --control PATH --guest-cid CID --socket PATH --uds-path PATH [OPTION...]",
    "",
    "Options:",
    ...optionRows(COMMON_OPTIONS),
    "",
    "The VM to add, as for bit33 serve:",
    ...optionRows(SINGLE_VM_OPTIONS),
    "",
    "Exit status: 0 if it was done, 2 if it was refused or nobody serves there, 1 for any other failure.",
  ].join("\n");
}
