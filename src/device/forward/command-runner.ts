/**
 * Runs the commands of one VM (`--forward PORT=exec:COMMAND`) on the main thread of the main process: a process for each
 * connection, with the other end of its socket pair as standard input and output. Ends those whose connection is over.
 * Whoever asks may be a process that a guest has taken over: it says a port and gives a descriptor, and nothing else of it
 * is believed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { limited } from "../../log/limited.js";
import type { Logger } from "../../log/logger.js";
import type { VmConfig } from "../config/vm-config.js";
import { type CommandRequest, MOST_COMMANDS } from "./command-request.js";
import type { CommandRequester } from "./commands.js";
import { SaidLines } from "./said-lines.js";

/** A command whose connection has ended in good order has read the end of its input; so long may it still take. */
export const LINGER_MS = 10_000;
/** From SIGTERM to SIGKILL. */
const KILL_AFTER_MS = 2000;
/** Of what a command writes to standard error, and may have from its guest. */
const RECORDS_A_SECOND = 20;
const LONGEST_SAID = 500;

interface Running {
  readonly child: ChildProcess;
  readonly command: string;
  timer: NodeJS.Timeout | undefined;
  /** It was asked to end. */
  isTerminated: boolean;
}

export class CommandRunner implements CommandRequester {
  /** Called when a command has ended, or could not be started. */
  exited: (id: number) => void = () => {};
  readonly #cid: number;
  readonly #log: Logger;
  readonly #commands: ReadonlyMap<number, string>;
  /** Those of the device that there is, by its numbers. */
  readonly #running = new Map<number, Running>();
  /** Those, and what is left of a device that has gone. */
  readonly #all = new Set<Running>();
  #allGone: () => void = () => {};

  constructor({ guestCid, forwards }: VmConfig, log: Logger) {
    this.#cid = guestCid;
    this.#log = limited(log.child({ vm: guestCid }), RECORDS_A_SECOND);
    this.#commands = new Map(
      forwards.flatMap(({ hostPort, target }) =>
        target.kind === "exec" ? [[hostPort, target.command] as const] : [],
      ),
    );
  }

  start({ id, hostPort, guestPort, fd }: CommandRequest & { readonly fd: number }): void {
    const command = this.#commands.get(hostPort);
    if (command === undefined || this.#running.has(id) || this.#all.size >= MOST_COMMANDS) {
      closeSync(fd);
      this.exited(id);
      return;
    }
    const env = {
      ...process.env,
      BIT33_PEER_CID: String(this.#cid),
      BIT33_PEER_PORT: String(guestPort),
      BIT33_PORT: String(hostPort),
    };
    // A process group of its own, so that what the shell starts ends with it.
    const child = spawn("/bin/sh", ["-c", command], { stdio: [fd, fd, "pipe"], env, detached: true });
    closeSync(fd);
    const running: Running = { child, command, timer: undefined, isTerminated: false };
    this.#running.set(id, running);
    this.#all.add(running);
    child.on("error", (error) => {
      this.#log.log({ event: "command-failed", message: `${command}: ${error.message}` });
      this.#forget(id, running);
    });
    child.on("exit", (status, signal) => this.#ended(id, running, status, signal));
    // Without descriptors there is none, whatever its type says.
    if (!(child.stderr instanceof Socket)) return;
    // What a command leaves in the background may keep it open; this program need not wait for that.
    child.stderr.unref();
    const said = new SaidLines(LONGEST_SAID, (line) => {
      const fields = { port: hostPort, guestPort };
      this.#log.log({ event: "command-said", message: `${command}: ${line}`, fields });
    });
    child.stderr.on("data", (bytes: Buffer) => said.write(bytes));
    child.stderr.on("end", () => said.end());
  }

  #ended(id: number, running: Running, status: number | null, signal: NodeJS.Signals | null): void {
    // What the shell had started has no leader any more. Nobody else can have the number of a group that there is.
    if (running.isTerminated) signalGroup(running.child, "SIGKILL");
    else if (status !== 0) {
      const how = signal === null ? `ended with status ${status}` : `was ended by ${signal}`;
      this.#log.log({ event: "command-ended", message: `${running.command}: ${how}` });
    }
    this.#forget(id, running);
  }

  #forget(id: number, running: Running): void {
    clearTimeout(running.timer);
    this.#all.delete(running);
    if (this.#running.get(id) === running) {
      this.#running.delete(id);
      this.exited(id);
    }
    if (this.#all.size === 0) this.#allGone();
  }

  over(id: number, isCut: boolean): void {
    const running = this.#running.get(id);
    if (running === undefined || running.isTerminated) return;
    if (isCut) this.#terminate(running);
    else running.timer ??= setTimeout(() => this.#terminate(running), LINGER_MS);
  }

  #terminate(running: Running): void {
    clearTimeout(running.timer);
    running.isTerminated = true;
    signalGroup(running.child, "SIGTERM");
    running.timer = setTimeout(() => signalGroup(running.child, "SIGKILL"), KILL_AFTER_MS);
  }

  /** Whoever had the connections is gone, and they with him. */
  endAll(): void {
    for (const running of this.#running.values()) if (!running.isTerminated) this.#terminate(running);
    this.#running.clear();
  }

  /** Ends every command, and resolves when they are gone. */
  async close(): Promise<void> {
    this.endAll();
    if (this.#all.size === 0) return;
    await new Promise<void>((resolve) => {
      this.#allGone = resolve;
    });
  }
}

function signalGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // There is none left.
  }
}
