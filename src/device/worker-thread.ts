/**
 * A thread that serves a device, as the main thread sees it: started, heard of, woken, ended. What the two talk about
 * besides `CommonMessage` is for those who use this.
 */
import { closeSync } from "node:fs";
import { type Transferable, Worker } from "node:worker_threads";
import { createEventfd, signalEventfd } from "../linux/eventfd.js";
import type { Logger } from "../log/logger.js";
import { LOG_LEVELS, type LogEntry, type LogLevel } from "../log/record.js";

/** What every such thread posts. */
export type CommonMessage =
  /** Every socket is served from now on. */
  { readonly kind: "ready" } | { readonly kind: "log"; readonly entry: LogEntry };

/** What every such thread is started with. */
export interface CommonStart {
  readonly logLevel: LogLevel;
  /** Written by the main thread after each message, since the thread blocks in epoll_wait. It stays the main thread's. */
  readonly wakeFd: number;
}

export interface WorkerThreadOptions<Message> {
  readonly script: URL;
  /** What it is started with beside `CommonStart`. */
  readonly start: object;
  readonly transferList?: Transferable[];
  /** Those that it serves now. */
  readonly guestCids: () => readonly number[];
  readonly log: Logger;
  /** Takes what else the thread posts. */
  onMessage?(message: Exclude<Message, CommonMessage>): void;
  /** Asks the thread to end; this program exits. */
  stop(): void;
}

/** Node waits for its Workers when it exits, and one in epoll_wait would not notice. */
const running = new Set<WorkerThreadOptions<never>>();
process.on("exit", () => {
  for (const thread of running) thread.stop();
});

export class WorkerThread<Message extends { readonly kind: string }> {
  /** Resolves when the device serves; rejects if the thread ends before. */
  readonly ready: Promise<void>;
  /** Settles when the thread has ended; rejects if it failed. */
  readonly ended: Promise<void>;
  readonly #worker: Worker;
  #wakeFd: number | undefined = createEventfd();

  constructor(options: WorkerThreadOptions<Message>) {
    const { script, start, transferList, guestCids, log } = options;
    const common: CommonStart = { logLevel: levelOf(log), wakeFd: this.#wakeFd as number };
    this.#worker = new Worker(script, {
      workerData: { ...start, ...common },
      ...(transferList === undefined ? {} : { transferList }),
      // The thread closes descriptors that it got from here and from peers; Node would warn of each.
      trackUnmanagedFds: false,
    });
    let becameReady: () => void;
    const started = new Promise<void>((resolve) => {
      becameReady = resolve;
    });
    this.#worker.on("message", (message: Message | CommonMessage) => {
      if (isLog(message)) log.log(message.entry);
      else if (message.kind === "ready") becameReady();
      else options.onMessage?.(message as Exclude<Message, CommonMessage>);
    });
    this.ended = new Promise((resolve, reject) => {
      this.#worker.on("error", (error: Error) => {
        const cids = guestCids();
        const shared = cids.length > 1 ? `, which VMs ${cids.join(", ")} share,` : "";
        const message = `the device's thread${shared} failed: ${error.stack ?? String(error)}`;
        for (const vm of cids) log.log({ event: "internal-error", vm, message });
        reject(error);
      });
      this.#worker.on("exit", () => {
        running.delete(options);
        // The thread is gone, and nobody but this object writes its eventfd.
        if (this.#wakeFd !== undefined) closeSync(this.#wakeFd);
        this.#wakeFd = undefined;
        resolve();
      });
    });
    this.ready = Promise.race([started, this.ended]);
    this.ready.catch(() => {});
    this.ended.catch(() => {});
    running.add(options);
  }

  get isRunning(): boolean {
    return this.#wakeFd !== undefined;
  }

  /** Has the thread look for messages. */
  wake(): void {
    if (this.#wakeFd !== undefined) signalEventfd(this.#wakeFd);
  }

  post(message: unknown): void {
    if (this.#wakeFd === undefined) return;
    this.#worker.postMessage(message);
    this.wake();
  }
}

function isLog(message: { readonly kind: string }): message is Extract<CommonMessage, { kind: "log" }> {
  return message.kind === "log";
}

export function levelOf(log: Logger): LogLevel {
  return [...LOG_LEVELS].reverse().find((level) => log.passes(level)) ?? "error";
}
