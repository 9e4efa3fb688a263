/** A process of the curves as its parent has it: it carries out one command at a time (`obey.ts`). */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Answer, Outcome } from "./commands.js";

/** Many times what any command takes. */
const PATIENCE_MS = 60_000;

export class CurveChild<Command extends { readonly do: string }> {
  readonly #child: ChildProcess;
  #hasEnded = false;

  /** `entry`: a module beside this one. */
  constructor(
    private readonly entry: string,
    progressPath: string,
  ) {
    this.#child = fork(fileURLToPath(new URL(entry, import.meta.url)), [progressPath]);
    this.#child.once("exit", () => {
      this.#hasEnded = true;
    });
  }

  /** Rejects with what went wrong, if something did. */
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
        reject(new Error(`${this.entry}, ${command.do}: ${text}`));
      };
      const take = (answer: Answer): void => {
        settle();
        if ("ok" in answer) resolve(answer.ok);
        else fail(answer.failed);
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
