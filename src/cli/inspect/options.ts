/**
 * What `bit33 inspect` was asked to do, from its command line. Must not know how an inspection works.
 */
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { ConfigError } from "../../config/errors.js";
import { SEVERITIES, type Severity } from "../../inspect/lints/lint.js";
import type { Repairs } from "../../inspect/repair/repairs.js";
import { DEVICE_TYPES, type DeviceType } from "../../virtio/index.js";
import { optionRows } from "../help.js";
import { secondsValue, socketPathValue } from "../option-values.js";
import { type GivenOption, type OptionTable, readArguments } from "../options.js";
import { UsageError } from "../usage-error.js";
import { REPAIR_OPTIONS, readRepairs } from "./repair-options.js";

const DEFAULT_CONNECT_TIMEOUT_S = 30;
const LONGEST_TIMEOUT_S = 3600;

const OPTIONS = {
  listen: { argument: "PATH", help: "listen there; the front-end connects to it instead of to the back-end" },
  connect: { argument: "PATH", help: "the back-end's socket" },
  reverse: { help: "the back-end connects to --listen, and the front-end listens at --connect" },
  "connect-timeout": {
    argument: "S",
    help: `how long a back-end that is not there yet is waited for, in seconds (default ${DEFAULT_CONNECT_TIMEOUT_S})`,
  },
  once: { help: "end after the first session" },
  rings: {
    help: "follow the rings too, by looks at the guest's memory: figures, and with --device vsock each packet",
  },
  capture: {
    argument: "FILE.pcapng",
    help: "keep the messages for Wireshark, and to inspect them again (docs/captures.md)",
  },
  strace: {
    argument: "FILE",
    help: "what strace wrote of a VMM that uses the kernel's vhost: shown and judged in the same way (docs/strace.md)",
  },
  device: {
    argument: "TYPE",
    help: `name the feature bits of this device type as well: ${DEVICE_TYPES.join(", ")}`,
  },
  json: { help: "print one JSON object a line instead of text" },
  quiet: { help: "print findings and the summary only, not each message" },
  "fail-on": {
    argument: "LEVEL",
    help: `exit with status 3 if there is a finding of this severity or above: ${SEVERITIES.join(", ")}`,
  },
  ...REPAIR_OPTIONS,
  help: { short: "h", help: "print this and exit" },
} as const satisfies OptionTable;
type OptionName = keyof typeof OPTIONS;

export function inspectHelp(): string {
  return [
    "bit33 inspect: stands between a vhost-user front-end and back-end, shows what they say, and says what is wrong",
    "",
    "Usage: bit33 inspect --listen PATH --connect PATH [OPTION...]",
    "       bit33 inspect FILE.pcapng [OPTION...]",
    "       bit33 inspect --strace FILE [OPTION...]",
    "",
    "Messages and files go through unchanged in both directions, whatever the device type. It ends with SIGINT or",
    "SIGTERM, and the session with it: a VM loses its device then. A capture is shown and judged as the live session was.",
    "",
    "Options:",
    ...optionRows(OPTIONS),
    "",
    "Example:",
    "  bit33 serve --guest-cid 3 --socket /tmp/b.sock --uds-path /tmp/vm3.vsock &",
    "  bit33 inspect --listen /tmp/a.sock --connect /tmp/b.sock --device vsock",
    "  qemu-system-x86_64 … -chardev socket,id=c,path=/tmp/a.sock -device vhost-user-vsock-pci,chardev=c",
    "",
    "docs/inspect.md explains what is shown, docs/lints.md each finding.",
    "",
    "Exit status: 0 after a clean end, 3 if --fail-on is met, 2 if the command line or a file that it names",
    "has to be changed, 1 for any other failure.",
  ].join("\n");
}

/** Between two programs. */
export interface LiveSource {
  readonly kind: "live";
  readonly listenPath: string;
  readonly connectPath: string;
  readonly comes: "front-end" | "back-end";
  readonly connectTimeoutMs: number;
  readonly once: boolean;
  readonly rings: boolean;
  readonly capturePath: string | undefined;
  readonly repairs: Repairs;
}

/** What somebody saw before: a capture of ours, or what strace wrote. */
export interface FileSource {
  readonly kind: "capture" | "strace";
  readonly path: string;
}

export interface InspectRequest {
  readonly source: LiveSource | FileSource;
  readonly deviceType: DeviceType | undefined;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly failOn: Severity | undefined;
}

/** Options that only mean something between two programs. */
const LIVE_ONLY: readonly OptionName[] = [
  "listen",
  "connect",
  "reverse",
  "connect-timeout",
  "once",
  "rings",
  "capture",
  ...(Object.keys(REPAIR_OPTIONS) as (keyof typeof REPAIR_OPTIONS)[]),
];

/** Throws an OperatorError for the first thing that is wrong. */
export function readInspectRequest(argv: readonly string[]): InspectRequest {
  const { options: given, words } = readArguments(argv, OPTIONS);
  const find = (name: OptionName): GivenOption<OptionName> | undefined =>
    given.find((option) => option.name === name);
  return {
    source: readSource(words, find, given),
    deviceType: oneOf(find("device"), DEVICE_TYPES),
    json: find("json") !== undefined,
    quiet: find("quiet") !== undefined,
    failOn: oneOf(find("fail-on"), SEVERITIES),
  };
}

type Find = (name: OptionName) => GivenOption<OptionName> | undefined;

type Given = readonly GivenOption<OptionName>[];

function readSource(words: readonly string[], find: Find, given: Given): InspectRequest["source"] {
  const trace = find("strace");
  const [path, another] = [...words, ...(trace === undefined ? [] : [trace.value])];
  if (path === undefined) return readLiveSource(find, given);
  if (another !== undefined) {
    const problem = `unexpected argument ${JSON.stringify(another)}; one file is inspected at a time`;
    throw new UsageError("argument-unexpected", problem);
  }
  const live = LIVE_ONLY.map(find).find((option) => option !== undefined);
  if (live !== undefined) {
    const problem = `${live.typed} belongs to a live session, and ${JSON.stringify(path)} is a file; leave one of them out`;
    throw new UsageError("option-conflict", problem);
  }
  return { kind: trace === undefined ? "capture" : "strace", path };
}

function readLiveSource(find: Find, given: Given): LiveSource {
  const listenPath = socketPath(find("listen"), "--listen PATH, where the front-end connects");
  const connectPath = socketPath(find("connect"), "--connect PATH, the back-end's socket");
  if (listenPath === connectPath) {
    const problem = "--listen and --connect are the same path; the interposer needs one of its own";
    throw new UsageError("option-conflict", problem);
  }
  const folder = dirname(listenPath);
  if (!existsSync(folder))
    throw new ConfigError("directory-missing", "--listen", `there is no directory ${folder}; create it`);
  const timeout = find("connect-timeout");
  return {
    kind: "live",
    listenPath,
    connectPath,
    comes: find("reverse") === undefined ? "front-end" : "back-end",
    connectTimeoutMs:
      timeout === undefined
        ? DEFAULT_CONNECT_TIMEOUT_S * 1000
        : secondsValue(timeout, LONGEST_TIMEOUT_S, true),
    once: find("once") !== undefined,
    rings: find("rings") !== undefined,
    capturePath: find("capture")?.value,
    repairs: readRepairs(given),
  };
}

function socketPath(option: GivenOption<OptionName> | undefined, what: string): string {
  if (option === undefined) {
    throw new UsageError(
      "option-needs-value",
      `one end is missing; give ${what} (inspect --help explains it)`,
    );
  }
  return socketPathValue(option);
}

function oneOf<T extends string>(
  option: GivenOption<OptionName> | undefined,
  values: readonly T[],
): T | undefined {
  if (option === undefined) return undefined;
  const found = values.find((value) => value === option.value);
  if (found !== undefined) return found;
  const problem = `${JSON.stringify(option.value)} is none of ${values.join(", ")}`;
  throw new ConfigError("value-malformed", option.typed, problem);
}
