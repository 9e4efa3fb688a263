/** What the main thread asks of one VM's device, wherever it runs: in a thread (`device-thread.ts`) or a process. */
import type { CommandRequester } from "./forward/commands.js";
import type { DeviceFigures, ProcessFigures } from "./metrics/figures.js";

/** What a device answers when it is asked how it is. */
export interface RunnerFigures {
  readonly figures: DeviceFigures;
  /** Its own process; absent for a thread. */
  readonly process?: ProcessFigures;
}

/** Who runs what ports are forwarded to. */
export interface CommandService extends CommandRequester {
  /** Set by whoever has the device: called when a command has ended. */
  exited: (id: number) => void;
  /** The device is gone, and all connections with it. */
  endAll(): void;
}

export interface DeviceRunner {
  /** Resolves when the device serves; rejects if it ends before. */
  readonly ready: Promise<void>;
  /** Settles when the device is gone for good; rejects if it failed. */
  readonly ended: Promise<void>;
  /** How often it was started again. */
  readonly restarts: number;
  /** Asks it to end. May be called more than once. */
  stop(): void;
  /** Undefined if it does not answer in time, or is gone. */
  figures(): Promise<RunnerFigures | undefined>;
}

/** A device answers between two bursts; one that takes so long is stuck, or the machine is. */
export const FIGURES_TIMEOUT_MS = 1000;

/** Questions that wait for the answer of somebody who may never give it. */
export class Questions<Answer> {
  readonly #waiting = new Map<number, (answer: Answer | undefined) => void>();
  #next = 0;

  /** `ask` sends the question with its number. Undefined if no answer comes in time. */
  ask(ask: (id: number) => void): Promise<Answer | undefined> {
    const id = this.#next++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.answer(id, undefined), FIGURES_TIMEOUT_MS);
      this.#waiting.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      ask(id);
    });
  }

  answer(id: number, answer: Answer | undefined): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    resolve?.(answer);
  }

  /** Nobody is left who could answer. */
  giveUp(): void {
    for (const id of [...this.#waiting.keys()]) this.answer(id, undefined);
  }
}
