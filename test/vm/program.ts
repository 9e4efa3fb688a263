/**
 * A child process whose output is kept: in memory as lines, and in a log file for whoever looks afterwards.
 * It never outlives the test process. Knows nothing of what the program is.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { appendFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { within } from "./waiting.js";

const running = new Set<ChildProcessWithoutNullStreams>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

// The test runner ends a test file by a signal, on which "exit" alone would not be called.
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => process.exit(1));

export class Program {
  readonly child: ChildProcessWithoutNullStreams;
  readonly lines: string[] = [];
  /** Resolves, and never rejects, with how the program ended. */
  readonly ended: Promise<string>;
  readonly #name: string;
  #end: string | undefined;

  /** Lines of stdout and stderr come to onLine in the order read, and to the log file. */
  constructor(name: string, command: readonly string[], logFile: string, onLine?: (line: string) => void) {
    const [program, ...options] = command;
    if (program === undefined) throw new Error(`no command for ${name}`);
    this.#name = name;
    writeFileSync(logFile, `${command.join(" ")}\n`);
    this.child = spawn(program, options, { stdio: "pipe" });
    running.add(this.child);
    for (const output of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: output }).on("line", (line) => {
        this.lines.push(line);
        appendFileSync(logFile, `${line}\n`);
        onLine?.(line);
      });
    }
    // A write to a program that just ended is told through `ended`, not through an unhandled event.
    this.child.stdin.on("error", () => {});
    this.ended = new Promise((resolve) => {
      const finish = (how: string): void => {
        this.#end ??= how;
        running.delete(this.child);
        appendFileSync(logFile, `(${name} ended: ${how})\n`);
        resolve(how);
      };
      this.child.on("error", (error) => finish(error.message));
      this.child.on("close", (code, signal) => finish(signal ?? `exit status ${code}`));
    });
  }

  get end(): string | undefined {
    return this.#end;
  }

  /** Rejects when the program ends first: nothing waits for an answer from the dead. */
  async alongside<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([
      promise,
      this.ended.then((how) => {
        throw new Error(`${this.#name} ended: ${how}`);
      }),
    ]);
  }

  /** Asks the program to end, insists if it does not, and says how it ended. */
  async stop(): Promise<string> {
    this.child.kill("SIGTERM");
    try {
      return await within(this.ended, `${this.#name} after SIGTERM`, 10_000);
    } catch {
      this.child.kill("SIGKILL");
      return `SIGKILL, as SIGTERM did not end it (${await this.ended})`;
    }
  }
}
