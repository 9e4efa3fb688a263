/**
 * `bit33 connect`: joins standard input and output with a port of a guest, through the Unix socket of its device. Made
 * for ssh's ProxyCommand and for scripts. Owns the command line; connect/handshake.ts asks, linux/relay.ts copies.
 */

import { closeSync } from "node:fs";
import { quoted } from "../config/quoted.js";
import { LONGEST_SOCKET_PATH_BYTES } from "../linux/socket-path.js";
import { optionRows } from "./help.js";
import { hasSwitch, type OptionTable, readArguments } from "./options.js";
import { EXIT_FAILURE, EXIT_OK, processTerminal, reportFailure, type Terminal } from "./terminal.js";
import { UsageError } from "./usage-error.js";

const OPTIONS = {
  "pass-fd": { help: "hand the connected socket over on standard output, for ssh's ProxyUseFdpass" },
  timeout: { argument: "SECONDS", help: "how long the device may take to answer (default 10)" },
  help: { short: "h", help: "print this and exit" },
} as const satisfies OptionTable;

const DEFAULT_TIMEOUT_SECONDS = 10;
const LONGEST_TIMEOUT_SECONDS = 3600;
/** VMADDR_PORT_ANY, 4294967295, is not a port. */
const LAST_PORT = 4294967294;

const HELP = [
  "bit33 connect: joins standard input and output with a port of a guest",
  "",
  "Usage: bit33 connect UDS-PATH PORT [--timeout SECONDS] [--pass-fd]",
  "",
  "UDS-PATH is the device's --uds-path (or any Unix socket in Firecracker's scheme).",
  "Each direction ends by itself: the end of standard input is passed on to the guest,",
  "and what the guest still sends is written. When the guest closes the connection,",
  "the command ends, whether or not standard input has.",
  "",
  "Options:",
  ...optionRows(OPTIONS),
  "",
  "Examples:",
  "  ssh -o ProxyCommand='bit33 connect /run/vm3.vsock 22' user@vm3",
  "  ssh -o ProxyUseFdpass=yes -o ProxyCommand='bit33 connect --pass-fd /run/vm3.vsock 22' user@vm3",
  "  echo status | bit33 connect /run/vm3.vsock 1234",
  "",
  "Exit status: 0 when the connection has ended in good order (or was handed over), 1 if there",
  "was none or it was cut, 2 if the command line is wrong.",
].join("\n");

interface Request {
  readonly path: string;
  readonly port: number;
  readonly timeoutMs: number;
  readonly passFd: boolean;
}

export async function connectCommand(
  argv: readonly string[],
  terminal: Terminal = processTerminal,
): Promise<number> {
  if (hasSwitch(argv, "--help", "-h")) {
    terminal.print(HELP);
    return EXIT_OK;
  }
  try {
    const problem = await run(readRequest(argv));
    if (problem === undefined) return EXIT_OK;
    terminal.complain(`bit33 connect: ${problem}`);
    return EXIT_FAILURE;
  } catch (error) {
    return reportFailure(error, terminal);
  }
}

function readRequest(argv: readonly string[]): Request {
  const { options, words } = readArguments(argv, OPTIONS);
  if (words.length < 2)
    throw new UsageError("argument-missing", "connect needs two words: bit33 connect UDS-PATH PORT");
  if (words.length > 2)
    throw new UsageError("argument-unexpected", `unexpected argument ${quoted(words[2])} after the port`);
  const [path, portText] = words;
  const lengthBytes = Buffer.byteLength(path);
  if (lengthBytes === 0 || lengthBytes > LONGEST_SOCKET_PATH_BYTES) {
    const problem = `the path has ${lengthBytes} bytes; a Unix socket's has 1 to ${LONGEST_SOCKET_PATH_BYTES}`;
    throw new UsageError("word-malformed", problem, "UDS-PATH");
  }
  if (!/^\d{1,10}$/.test(portText) || Number(portText) > LAST_PORT) {
    const problem = `${quoted(portText)} is not a port; give a number from 0 to ${LAST_PORT}`;
    throw new UsageError("word-malformed", problem, "PORT");
  }
  const timeout = options.find(({ name }) => name === "timeout");
  return {
    path,
    port: Number(portText),
    timeoutMs: 1000 * (timeout === undefined ? DEFAULT_TIMEOUT_SECONDS : readSeconds(timeout.value)),
    passFd: options.some(({ name }) => name === "pass-fd"),
  };
}

function readSeconds(text: string): number {
  const seconds = /^\d{1,9}(\.\d+)?$/.test(text) ? Number(text) : 0;
  if (seconds > 0 && seconds <= LONGEST_TIMEOUT_SECONDS) return seconds;
  const problem = `${quoted(text)} is not a number of seconds up to ${LONGEST_TIMEOUT_SECONDS}`;
  throw new UsageError("word-malformed", problem, "--timeout");
}

/** What went wrong, if anything did. The native binding is loaded only for a request that can be read. */
async function run({ path, port, timeoutMs, passFd }: Request): Promise<string | undefined> {
  const { connectToGuest } = await import("./connect/handshake.js");
  const connected = connectToGuest(path, port, timeoutMs);
  if (connected.kind === "failed") return connected.reason;
  const { fd } = connected;
  if (passFd) {
    const { handOver } = await import("./connect/hand-over.js");
    const problem = handOver(fd, 1);
    closeSync(fd);
    return problem;
  }
  const { relay } = await import("../linux/relay.js");
  const outcome = relay(fd, 0, 1);
  closeSync(fd);
  return outcome.kind === "failed" ? outcome.reason : undefined;
}
