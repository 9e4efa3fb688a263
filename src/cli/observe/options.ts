/**
 * What `bit33 observe` was asked to do, from its command line. Must not know how an observation works.
 */
import { accessSync, constants, existsSync } from "node:fs";
import { dirname } from "node:path";
import { ConfigError } from "../../config/errors.js";
import { resolveProfile } from "../../profiles/resolve.js";
import type { VmmProfile } from "../../profiles/vmm-profile.js";
import { optionRows } from "../help.js";
import { secondsValue, socketPathValue } from "../option-values.js";
import { type GivenOption, type OptionTable, readOptions } from "../options.js";
import { UsageError } from "../usage-error.js";

const DEFAULT_TIMEOUT_S = 60;
const LONGEST_TIMEOUT_S = 3600;
const DEFAULT_NAME = "observed";

const OPTIONS = {
  socket: { argument: "PATH", help: "listen there; the front-end connects to it" },
  exec: {
    argument: "CMD",
    help: "start the front-end with this shell command, afresh for each session",
  },
  "exec-viommu": {
    argument: "CMD",
    help: "the same machine with a vIOMMU in front of the device; without it, nothing is said of translation",
  },
  out: { argument: "FILE", help: "write the profile there instead of to standard output" },
  name: { argument: "NAME", help: `what the profile is called (default ${DEFAULT_NAME})` },
  base: {
    argument: "PROFILE",
    help: "take what cannot be seen from this VMM profile, a built-in one or a file",
  },
  json: { help: "print the observations as JSON, one object a line, instead of the profile" },
  timeout: {
    argument: "S",
    help: `how long a session may take to start its rings, in seconds (default ${DEFAULT_TIMEOUT_S})`,
  },
  help: { short: "h", help: "print this and exit" },
} as const satisfies OptionTable;
type OptionName = keyof typeof OPTIONS;

export function observeHelp(): string {
  return [
    "bit33 observe: plays back-ends to a real vhost-user front-end and writes a VMM profile from what it does",
    "",
    "Usage: bit33 observe --socket PATH [--exec CMD [--exec-viommu CMD]] [OPTION...]",
    "",
    "Each session offers something else: everything, no bit 33, no CONFIG, and so on. The front-end's guest needs a",
    "virtio-vsock driver; no program in it. Without --exec, start the front-end again for each session.",
    "",
    "Options:",
    ...optionRows(OPTIONS),
    "",
    "Example:",
    "  bit33 observe --socket /tmp/o.sock --out my-vmm.yaml \\",
    "    --exec 'qemu-system-x86_64 … -chardev socket,id=c,path=/tmp/o.sock \\",
    "            -device vhost-user-vsock-pci,chardev=c,iommu_platform=on' \\",
    "    --exec-viommu 'qemu-system-x86_64 … -device virtio-iommu-pci \\",
    "            -chardev socket,id=c,path=/tmp/o.sock -device vhost-user-vsock-pci,chardev=c,iommu_platform=on'",
    "  bit33 compat --vmm ./my-vmm.yaml",
    "",
    "Exit status: 0 if a profile could be written, 1 if the front-end did not let itself be observed,",
    "2 if the command line has to be changed.",
  ].join("\n");
}

export interface ObserveRequest {
  readonly socketPath: string;
  readonly command: string | undefined;
  readonly viommuCommand: string | undefined;
  readonly out: string | undefined;
  readonly name: string;
  readonly base: VmmProfile | undefined;
  readonly json: boolean;
  readonly timeoutMs: number;
}

/** Throws an OperatorError for the first thing that is wrong. */
export function readObserveRequest(argv: readonly string[]): ObserveRequest {
  const given = readOptions(argv, OPTIONS);
  const find = (name: OptionName): GivenOption<OptionName> | undefined =>
    given.find((option) => option.name === name);
  const socket = find("socket");
  if (socket === undefined) {
    throw new UsageError(
      "option-needs-value",
      "no socket is named; give --socket PATH (observe --help explains it)",
    );
  }
  const command = nonEmpty(find("exec"));
  const viommuCommand = nonEmpty(find("exec-viommu"));
  if (viommuCommand !== undefined && command === undefined) {
    const problem =
      "--exec-viommu is the second machine of two; give --exec with the one without a vIOMMU as well";
    throw new UsageError("option-conflict", problem);
  }
  const timeout = find("timeout");
  const base = find("base");
  const baseProfile = base && resolveProfile("vmm", base.value);
  if (base !== undefined && baseProfile?.transport === "kernel") {
    const problem = `${base.value} drives the kernel's device, and this observes vhost-user; name a vhost-user profile`;
    throw new ConfigError("value-malformed", "--base", problem);
  }
  return {
    socketPath: checkedSocket(socket.value),
    command,
    viommuCommand,
    out: checkedOut(find("out")),
    name: checkedName(find("name")),
    base: baseProfile,
    json: find("json") !== undefined,
    timeoutMs: timeout === undefined ? DEFAULT_TIMEOUT_S * 1000 : secondsValue(timeout, LONGEST_TIMEOUT_S),
  };
}

function nonEmpty(option: GivenOption<OptionName> | undefined): string | undefined {
  if (option === undefined) return undefined;
  if (option.value.trim() !== "") return option.value;
  throw new UsageError("option-needs-value", `${option.typed} is empty; give a shell command`);
}

function checkedSocket(value: string): string {
  const path = socketPathValue({ typed: "--socket", value });
  assertFolder("--socket", path);
  return path;
}

/** Now, and not after minutes of sessions. */
function checkedOut(option: GivenOption<OptionName> | undefined): string | undefined {
  if (option === undefined) return undefined;
  if (option.value === "")
    throw new ConfigError("value-missing", option.typed, "the path is empty; give a file name");
  assertFolder(option.typed, option.value);
  return option.value;
}

function assertFolder(place: string, path: string): void {
  const folder = dirname(path);
  if (!existsSync(folder)) {
    throw new ConfigError("directory-missing", place, `there is no directory ${folder}; create it`);
  }
  try {
    accessSync(folder, constants.W_OK);
  } catch (cause) {
    throw new ConfigError("directory-missing", place, `${folder} cannot be written; choose another`, {
      cause,
    });
  }
}

function checkedName(option: GivenOption<OptionName> | undefined): string {
  const name = option?.value ?? DEFAULT_NAME;
  if (/^[a-z0-9][a-z0-9.-]*$/.test(name)) return name;
  const problem = `${JSON.stringify(name)} is no profile name; use lower-case letters, digits, dots and dashes`;
  throw new ConfigError("value-malformed", "--name", problem);
}
