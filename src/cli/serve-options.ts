/**
 * The options of `bit33 serve`: their table, and how a command line becomes the VMs to serve.
 * A VM is described in one of three ways, and as in vhost-device-vsock they exclude each other: single-VM
 * options, `--vm` (repeated), or `--config`. The remaining options are about the process.
 */

import { fstatSync } from "node:fs";
import { ConfigError } from "../config/errors.js";
import { quoted } from "../config/quoted.js";
import { checkVmConfigs } from "../device/config/check.js";
import {
  FORWARDING_KEYS,
  isSettingKey,
  readSettingKey,
  readVmSettings,
  refuseForwarding,
  SETTINGS,
  type VmSettings,
  VmSettingsBuilder,
} from "../device/config/settings.js";
import { ISOLATIONS, type Isolation } from "../device/config/siblings.js";
import { readChoice, readNumber, readPath } from "../device/config/values.js";
import type { VmConfig } from "../device/config/vm-config.js";
import { LOG_FORMATS, type LogFormat } from "../log/format.js";
import { LOG_LEVELS, type LogLevel } from "../log/record.js";
import { type GivenOption, type OptionDefinition, type OptionTable, readOptions } from "./options.js";
import { readListenAddress } from "./serve/listen-address.js";
import type { ListenAddress } from "./serve/metrics-server.js";
import { readUser, type User } from "./serve/user.js";
import { UsageError } from "./usage-error.js";
import { parseVmOption } from "./vm-option.js";

/** Options that describe the one VM; the same keys as in `--vm`. */
export const SINGLE_VM_OPTIONS: OptionTable = {
  ...SETTINGS,
  // vhost-user document, "Backend program conventions".
  "socket-path": { argument: "PATH", aliasOf: "socket", help: "the same as --socket" },
};

export const MANY_VMS_OPTIONS = {
  vm: {
    argument: "KEY=VALUE,...",
    repeatable: true,
    help: "one VM in one option, repeatable; keys as above, without the dashes in front",
  },
  config: { argument: "FILE", help: "YAML file with a list `vms:` of such keys" },
} as const satisfies OptionTable;

/** By Landlock; `auto`: if the kernel has it. */
export const CONFINES = ["auto", "on", "off"] as const;
export type Confine = (typeof CONFINES)[number];

export const PROCESS_OPTIONS = {
  fd: { argument: "N", help: "use the inherited descriptor N as the vhost-user socket; needs no --socket" },
  "print-capabilities": { help: "print what this back-end is, as JSON, and exit" },
  "log-level": { argument: LOG_LEVELS.join("|"), help: "how much to log on standard error (default info)" },
  "log-format": {
    argument: LOG_FORMATS.join("|"),
    help: "lines for people or JSON for programs (default text)",
  },
  metrics: {
    argument: "HOST:PORT",
    help: "serve metrics for Prometheus there, at /metrics (no password: choose who reaches it)",
  },
  control: {
    argument: "PATH",
    help: "Unix socket to make for bit33 ctl, which adds and removes VMs; only its owner may connect",
  },
  isolate: {
    argument: ISOLATIONS.join("|"),
    help: "where each VM's device runs; process if the guests distrust each other (default thread)",
  },
  confine: {
    argument: CONFINES.join("|"),
    help: "whether the processes of --isolate process may open only what they need (default auto: if the kernel can)",
  },
  user: {
    argument: "NAME|UID[:GROUP]",
    help: "become this user once the sockets are made; for a start as root",
  },
  help: { short: "h", help: "print this and exit" },
  version: { short: "V", help: "print the version and exit" },
} as const satisfies OptionTable;

/** Options of the peer that are known in order to be refused. */
const REFUSED_OPTIONS: OptionTable = Object.fromEntries(
  Object.keys(FORWARDING_KEYS).map((name): [string, OptionDefinition] => [name, { argument: "VALUE" }]),
);

const ALL_OPTIONS: OptionTable = {
  ...SINGLE_VM_OPTIONS,
  ...MANY_VMS_OPTIONS,
  ...PROCESS_OPTIONS,
  ...REFUSED_OPTIONS,
};

export interface ServeRequest {
  readonly configs: VmConfig[];
  /** Inherited vhost-user socket, connected or listening. */
  readonly fd: number | undefined;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly metrics: ListenAddress | undefined;
  /** Path of the control socket. */
  readonly control: string | undefined;
  readonly isolate: Isolation;
  readonly confine: Confine;
  readonly user: User | undefined;
}

/** Rejects with an OperatorError for the first thing that is wrong. Opens nothing but the configuration file. */
export async function readServeRequest(argv: readonly string[]): Promise<ServeRequest> {
  const given = readOptions(argv, ALL_OPTIONS);
  for (const { name, typed } of given) refuseForwarding(name, typed);
  const find = (name: string) => given.find((option) => option.name === name);
  const logLevel = find("log-level");
  const logFormat = find("log-format");
  const fdOption = find("fd");
  const fd = fdOption && readFd(fdOption);
  const [metrics, control, isolate, user] = ["metrics", "control", "isolate", "user"].map(find);
  const isolation = isolate ? readChoice(settingOf(isolate), ISOLATIONS) : "thread";
  if (control !== undefined && fdOption !== undefined) {
    const problem =
      "--control cannot be combined with --fd, which serves one VM and ends with it; leave one out";
    throw new UsageError("option-conflict", problem);
  }
  const vms = (await describedVms(given, control !== undefined)).map(readVmSettings);
  checkVmConfigs(vms, { fd });
  return {
    configs: vms.map(({ config }) => config),
    fd,
    logLevel: logLevel ? readChoice(settingOf(logLevel), LOG_LEVELS) : "info",
    logFormat: logFormat ? readChoice(settingOf(logFormat), LOG_FORMATS) : "text",
    metrics: metrics && readListenAddress(settingOf(metrics)),
    control: control && readPath(settingOf(control)),
    isolate: isolation,
    confine: readConfine(find("confine"), isolation),
    user: user && readUser(settingOf(user)),
  };
}

/** The VMs, by whichever of the three ways the command line uses. */
async function describedVms(
  given: readonly GivenOption<string>[],
  mayBeNone: boolean,
): Promise<VmSettings[]> {
  const single = given.filter(({ name }) => isSettingKey(name));
  const vmOptions = given.filter(({ name }) => name === "vm");
  const config = given.find(({ name }) => name === "config");
  if (config !== undefined && vmOptions.length > 0) {
    const problem = "--vm cannot be combined with --config; move that VM into the file, or leave one out";
    throw new UsageError("option-conflict", problem);
  }
  if (single.length > 0 && (config !== undefined || vmOptions.length > 0)) {
    const [{ name, typed, value }] = single;
    const instead =
      config === undefined ? `write ${name}=${value} inside --vm` : `write ${name}: ${value} into the file`;
    const other = config === undefined ? "--vm" : "--config";
    const problem = `${typed} describes a single VM and cannot be combined with ${other}; ${instead}`;
    throw new UsageError("option-conflict", problem);
  }
  if (config !== undefined) {
    // Loaded late: the YAML parser is as many modules again as the rest of a start, and most command lines need none.
    const { readConfigFile } = await import("./config-file.js");
    return readConfigFile(config.value);
  }
  if (vmOptions.length > 0) return vmOptions.map(({ value }, index) => parseVmOption(value, index + 1));
  if (single.length > 0) return [singleVm(single)];
  if (mayBeNone) return [];
  throw new UsageError(
    "nothing-to-serve",
    "no VM is described; give --socket and --uds-path, or --vm, or --config (serve --help explains them)",
  );
}

function singleVm(options: readonly GivenOption<string>[]): VmSettings {
  const settings = new VmSettingsBuilder("");
  for (const option of options)
    settings.add(readSettingKey(option.name, option.typed), option.typed, settingOf(option));
  return settings;
}

/** A thread cannot be confined by itself: it shares memory with those that are not. */
function readConfine(option: GivenOption<string> | undefined, isolation: Isolation): Confine {
  const confine = option ? readChoice(settingOf(option), CONFINES) : "auto";
  if (confine === "on" && isolation === "thread") {
    const problem = "--confine is about the processes of VMs; add --isolate process, or leave it out";
    throw new UsageError("option-conflict", problem);
  }
  return confine;
}

function settingOf({ typed, value }: GivenOption<string>) {
  return { text: value, place: typed };
}

/** The descriptor must be a socket; whether it listens or is connected is for the device to find out. */
function readFd(option: GivenOption<string>): number {
  const setting = settingOf(option);
  const fd = readNumber(setting);
  const refuse = (problem: string, cause?: unknown) => {
    throw new ConfigError("fd-unusable", setting.place, problem, { cause });
  };
  // The kernel counts descriptors in an int.
  if (fd > 0x7fffffff) refuse(`${quoted(option.value)} is no descriptor number`);
  let isSocket = false;
  try {
    isSocket = fstatSync(fd).isSocket();
  } catch (cause) {
    refuse(`descriptor ${fd} is not open; let the program that starts bit33 pass it on`, cause);
  }
  if (!isSocket) refuse(`descriptor ${fd} is not a socket; pass on a Unix socket, connected or listening`);
  return fd;
}
