/**
 * A back-end that the kit starts itself, afresh for each case: a shell command in a process group of its own.
 * Must not know what the back-end is tried with.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, lstatSync, rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { Target } from "./context.js";
import { CaseFailed } from "./outcome.js";

/** How long it may take until it listens. */
const START_MS = 15_000;
const MOST_OUTPUT_BYTES = 2000;

export class BackendProcess {
  readonly #command: string;
  readonly #target: Target;
  #child: ChildProcess | undefined;
  #gone: Promise<unknown> = Promise.resolve();
  #said = "";

  /** `command`: for /bin/sh; `{socket}`, `{uds}` and `{cid}` stand for what the kit uses. */
  constructor(command: string, target: Target) {
    this.#target = target;
    this.#command = command
      .replaceAll("{socket}", target.socketPath)
      .replaceAll("{uds}", target.udsPath ?? "")
      .replaceAll("{cid}", String(target.guestCid ?? 3));
  }

  /**
   * Starts it if it does not run, or has ended by itself as a back-end may after a session, and waits until it listens.
   * Throws CaseFailed if it never does, or has died.
   */
  async ensure(): Promise<void> {
    if (this.#isRunning) return;
    const death = await this.death(0);
    if (death !== undefined) throw new CaseFailed(death);
    this.#removeSockets();
    this.#said = "";
    const child = spawn("/bin/sh", ["-c", this.#command], {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    const hear = (bytes: Buffer): void => {
      this.#said = (this.#said + bytes.toString()).slice(-MOST_OUTPUT_BYTES);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    this.#gone = once(child, "exit");
    await Promise.race([this.#gone, this.#listens()]);
    if (!this.#isRunning) throw new CaseFailed(`the command ended at once${this.saying}`);
  }

  /** What a back-end that was killed leaves lying, and the next one could not bind. Never a file that is no socket. */
  #removeSockets(): void {
    const { socketPath, udsPath = socketPath } = this.#target;
    for (const path of [socketPath, udsPath]) {
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (found === undefined) continue;
      if (!found.isSocket()) throw new CaseFailed(`${path} is there and is no socket`);
      rmSync(path);
    }
  }

  /** The file is there between bind and listen, too: whoever connects tries again for a while. */
  async #listens(): Promise<void> {
    const deadlineMs = performance.now() + START_MS;
    while (!existsSync(this.#target.socketPath) && performance.now() < deadlineMs) await delay(10);
  }

  /** How it ended, if it did. @param graceMs how long the news may take */
  async death(graceMs: number): Promise<string | undefined> {
    if (this.#isRunning) await Promise.race([delay(graceMs), this.#gone]);
    if (this.#isRunning || this.#child === undefined) return undefined;
    const { signalCode, exitCode } = this.#child;
    if (exitCode === 0) return undefined;
    return `the back-end's process ended (${signalCode ?? `status ${exitCode}`})${this.saying}`;
  }

  /** Its last words, as the end of a sentence. */
  get saying(): string {
    const line = this.#said.trim().split("\n").at(-1) ?? "";
    return line === "" ? "" : `, saying: ${line}`;
  }

  /** Ends it and everything that it started. */
  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    process.kill(-child.pid, "SIGKILL");
    await this.#gone;
    this.#removeSockets();
  }

  get #isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }
}
