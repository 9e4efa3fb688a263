/** A program of the bench as its parent has it: a child process that takes one command at a time. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Answer, GuestCommand, HostCommand, Outcome } from "./commands.js";

/** Many times what any command takes. */
const PATIENCE_MS = 30_000;

export class Program<Command extends { readonly do: string }> {
  readonly #child: ChildProcess;
  #hasEnded = false;

  private constructor(
    private readonly name: string,
    entry: string,
    progressPath: string,
  ) {
    this.#child = fork(fileURLToPath(new URL(entry, import.meta.url)), [progressPath]);
    this.#child.once("exit", () => {
      this.#hasEnded = true;
    });
  }

  static guest(name: string, progressPath: string): Program<GuestCommand> {
    return new Program<GuestCommand>(name, "./guest-program.js", progressPath);
  }

  static host(progressPath: string): Program<HostCommand> {
    return new Program<HostCommand>("host", "./host-program.js", progressPath);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Has a command carried out. Rejects with what went wrong, if something did. */
  ask(command: Command): Promise<Outcome> {
    const child = this.#child;
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        child.off("message", take);
        child.off("exit", end);
      };
      const fail = (text: string): void => {
        settle();
        reject(new Error(`${this.name}, ${command.do}: ${text}`));
      };
      const take = (answer: Answer): void => {
        settle();
        if ("ok" in answer) resolve(answer.ok);
        else reject(new Error(`${this.name}, ${command.do}: ${answer.failed}`));
      };
      const end = (): void => fail("its process has ended");
      const timer = setTimeout(() => fail(`not done after ${PATIENCE_MS} ms`), PATIENCE_MS);
      child.on("message", take);
      child.once("exit", end);
      if (this.#hasEnded) end();
      else child.send(command);
    });
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}
