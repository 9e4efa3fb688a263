/**
 * What the main thread asks of a VM's device, or of those of siblings, wherever they run: in a thread (`device-thread.ts`)
 * or a process (`device-process.ts`).
 */
import type { VmConfig } from "./config/vm-config.js";
import type { CommandRequester } from "./forward/commands.js";
import type { DeviceFigures, ProcessFigures } from "./metrics/figures.js";
import type { DeviceSockets } from "./vm-sockets.js";

/** What a device answers when it is asked how it is. */
export interface RunnerFigures {
  readonly figures: DeviceFigures;
  /** Its own process; absent for a thread. */
  readonly process?: ProcessFigures;
}

/** A VM that is to be served, with sockets that its runner takes over, and closes at its end. */
export interface RunnerVm {
  readonly config: VmConfig;
  readonly sockets: DeviceSockets;
  readonly commands: CommandService;
}

/** Who runs what a VM's ports are forwarded to. */
export interface CommandService extends CommandRequester {
  /** Set by whoever has the device: called when a command has ended. */
  exited: (id: number) => void;
  /** The device is gone, and all connections with it. */
  endAll(): void;
}

/** Serves one VM, or several that are siblings. */
export interface DeviceRunner {
  /** Resolves when it serves those that it was made for; rejects if it ends before. */
  readonly ready: Promise<void>;
  /** How often it was started again. */
  readonly restarts: number;
  /** Settles when a VM's device is gone for good; rejects if it failed. */
  ended(cid: number): Promise<void>;
  /** Takes in another VM, where that is possible. Resolves when it is served. */
  add?(vm: RunnerVm): Promise<void>;
  /** Asks a VM's device to end. May be called more than once. */
  stop(cid: number): void;
  /** Of one VM; undefined if it does not answer in time, or is gone. */
  figures(cid: number): Promise<RunnerFigures | undefined>;
}

/** The VMs of one runner, each until it is gone. */
export class Endings {
  readonly #all = new Map<number, Ending>();

  begin(cid: number): void {
    let settle: Pick<Ending, "resolve" | "reject"> = { resolve: () => {}, reject: () => {} };
    const promise = new Promise<void>((resolve, reject) => {
      settle = { resolve, reject };
    });
    promise.catch(() => {});
    this.#all.set(cid, { promise, ...settle, isOver: false });
  }

  /** Those that are not gone. */
  get cids(): number[] {
    return [...this.#all].filter(([, { isOver }]) => !isOver).map(([cid]) => cid);
  }

  of(cid: number): Promise<void> {
    return this.#all.get(cid)?.promise ?? Promise.resolve();
  }

  end(cid: number, failure?: unknown): void {
    const ending = this.#all.get(cid);
    if (ending === undefined || ending.isOver) return;
    ending.isOver = true;
    if (failure === undefined) ending.resolve();
    else ending.reject(failure);
  }

  endAll(failure?: unknown): void {
    for (const cid of this.cids) this.end(cid, failure);
  }
}

interface Ending {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
  isOver: boolean;
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
