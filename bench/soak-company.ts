/** The parent's end of the process of one VM of a soak (`soak-players.ts`). */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Tally, ToPlayers } from "./soak-messages.js";

type Answer = { readonly tally: Tally } | { readonly failed: string };

export class Company {
  /** As it was told last. */
  tally: Tally | undefined;
  readonly #child: ChildProcess;
  #hasEnded = false;

  constructor() {
    this.#child = fork(fileURLToPath(new URL("./soak-players.js", import.meta.url)));
    this.#child.once("exit", () => {
      this.#hasEnded = true;
    });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Gives an order and waits until it is carried out. Rejects with what went wrong. */
  order(order: ToPlayers): Promise<Tally> {
    const child = this.#child;
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        child.off("message", take);
        child.off("exit", end);
      };
      const take = (answer: Answer): void => {
        settle();
        if ("failed" in answer) {
          reject(new Error(`${order.do}: ${answer.failed}`));
          return;
        }
        this.tally = answer.tally;
        resolve(answer.tally);
      };
      const end = (): void => {
        settle();
        reject(new Error(`${order.do}: the process has ended`));
      };
      child.on("message", take);
      child.once("exit", end);
      if (this.#hasEnded) end();
      else child.send(order);
    });
  }

  stop(): void {
    this.#child.kill("SIGKILL");
  }
}
