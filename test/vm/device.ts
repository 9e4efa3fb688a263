/**
 * The device under test, as a program: how it is started, when it is ready, and what its log says. The only place
 * that knows the log's shape. BIT33_VM_DEVICE puts another vhost-user-vsock device in its place: a command line in
 * which {cid}, {socket} and {uds} are filled in.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Program } from "./program.js";
import { until } from "./waiting.js";

export const guestCid = 3;

export type TranslationMode = "off" | "on";

export const ourCli = join(dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");
const template =
  process.env.BIT33_VM_DEVICE ??
  `${process.execPath} ${ourCli} serve --guest-cid {cid} --socket {socket} --uds-path {uds} --log-format json`;

export class Device {
  /** Another device than ours: nothing is expected of its log. */
  static readonly isForeign = process.env.BIT33_VM_DEVICE !== undefined;
  readonly program: Program;
  readonly #socket: string;

  /** @param options more of them, for our own device */
  constructor(socket: string, udsPath: string, logFile: string, options: readonly string[] = []) {
    const values: Record<string, string> = { cid: String(guestCid), socket, uds: udsPath };
    const command = template
      .split(" ")
      .map((word) => word.replace(/\{(\w+)\}/g, (_all, name) => values[name] ?? ""));
    this.#socket = socket;
    const all = Device.isForeign ? command : [...command, ...options];
    this.program = new Program("the device", all, logFile);
  }

  /** Waits until the vhost-user socket listens, without connecting: a connection would be a front-end. */
  async ready(): Promise<void> {
    await this.program.alongside(
      until("the device listens", () => (isListening(this.#socket) ? true : undefined)),
    );
  }

  /** The JSON log lines of one event, oldest first. */
  events(name: string): Record<string, unknown>[] {
    return this.program.lines
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((entry) => entry.event === name);
  }

  /** The translation mode of the running session: the last decision that the device logged. */
  translationMode(): TranslationMode | undefined {
    return this.events("translation-mode").at(-1)?.mode as TranslationMode | undefined;
  }
}

/** Flags of /proc/net/unix: __SO_ACCEPTCON is set on a listening socket (Linux, include/uapi/linux/net.h). */
function isListening(path: string): boolean {
  return readFileSync("/proc/net/unix", "utf8")
    .split("\n")
    .some((line) => line.endsWith(` ${path}`) && line.split(/\s+/)[3] === "00010000");
}
