/** The demo's end of the guest process: starts it, gives orders, waits for answers. */

import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { FromGuest, GuestAnswer, ToGuest } from "./messages.js";

export class GuestLink {
  readonly #child: ChildProcess;
  #waiting: ((answer: FromGuest) => void) | undefined;
  #ended = false;

  constructor() {
    this.#child = fork(fileURLToPath(new URL("./guest-process.js", import.meta.url)), {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#child.on("message", (answer) => this.#answered(answer as FromGuest));
    this.#child.on("error", (error) => this.#answered({ kind: "failed", reason: error.message }));
    this.#child.on("exit", (code, signal) => {
      this.#ended = true;
      this.#answered({ kind: "failed", reason: `the guest's process ended (${signal ?? `status ${code}`})` });
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Gives an order and waits for the answer that belongs to it. Rejects with the guest's reason. */
  ask<Kind extends FromGuest["kind"]>(order: ToGuest, kind: Kind): Promise<GuestAnswer<Kind>> {
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(new Error("the guest's process has ended"));
        return;
      }
      this.#waiting = (answer) => {
        if (answer.kind === kind) resolve(answer as GuestAnswer<Kind>);
        else reject(new Error(answer.kind === "failed" ? answer.reason : `unexpected answer ${answer.kind}`));
      };
      this.#child.send(order);
    });
  }

  /** Ends the process, whatever it does. */
  kill(): void {
    if (!this.#ended) this.#child.kill("SIGKILL");
  }

  #answered(answer: FromGuest): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.(answer);
  }
}
