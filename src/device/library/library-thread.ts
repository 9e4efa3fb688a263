/** The thread of one library device (`library-worker.ts`), as the main thread sees it: starts, wakes and ends it. */
import { closeSync } from "node:fs";
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";
import { createEventfd, signalEventfd } from "../../linux/eventfd.js";
import type { Logger } from "../../log/logger.js";
import { LOG_LEVELS } from "../../log/record.js";
import type { VmConfig } from "../config/vm-config.js";
import type { FromLibraryWorker, LibraryWorkerStart } from "./library-worker.js";
import type { ToDevice } from "./messages.js";

/** Node waits for its Workers when it exits, and one in epoll_wait would not notice. */
const running = new Set<LibraryThread>();
process.on("exit", () => {
  for (const thread of running) thread.stop();
});

export class LibraryThread {
  /** Resolves when the device serves; rejects if the thread ends before. */
  readonly ready: Promise<void>;
  /** Settles when the thread has ended; rejects if it failed. */
  readonly ended: Promise<void>;
  /** Where its messages arrive (`FromDevice`). */
  readonly port: MessagePort;
  readonly #stopFlag = new Int32Array(new SharedArrayBuffer(4));
  #wakeFd: number | undefined = createEventfd();

  /** The thread takes over the descriptors of `sockets`. */
  constructor(
    config: VmConfig,
    sockets: Pick<LibraryWorkerStart, "vmm" | "hybridFd" | "seqpacketFd">,
    log: Logger,
  ) {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const workerData: LibraryWorkerStart = {
      config,
      ...sockets,
      logLevel: [...LOG_LEVELS].reverse().find((level) => log.passes(level)) ?? "error",
      wakeFd: this.#wakeFd as number,
      library: port2,
      stopFlag: this.#stopFlag,
    };
    const worker = new Worker(new URL("./library-worker.js", import.meta.url), {
      workerData,
      transferList: [port2],
      // The thread closes descriptors that it got from here and from peers; Node would warn of each.
      trackUnmanagedFds: false,
    });
    let becameReady: () => void;
    const started = new Promise<void>((resolve) => {
      becameReady = resolve;
    });
    worker.on("message", (message: FromLibraryWorker) => {
      if (message.kind === "log") log.log(message.entry);
      else becameReady();
    });
    this.ended = new Promise((resolve, reject) => {
      worker.on("error", (error: Error) => {
        const message = `the device's thread failed: ${error.stack ?? String(error)}`;
        log.log({ event: "internal-error", vm: config.guestCid, message });
        reject(error);
      });
      worker.on("exit", () => {
        running.delete(this);
        // The thread is gone, and nobody but this object writes its eventfd.
        if (this.#wakeFd !== undefined) closeSync(this.#wakeFd);
        this.#wakeFd = undefined;
        resolve();
      });
    });
    this.ready = Promise.race([started, this.ended]);
    this.ended.catch(() => {});
    running.add(this);
  }

  post(message: ToDevice): void {
    this.port.postMessage(message);
    this.#wake();
  }

  stop(): void {
    Atomics.store(this.#stopFlag, 0, 1);
    this.#wake();
  }

  #wake(): void {
    if (this.#wakeFd !== undefined) signalEventfd(this.#wakeFd);
  }
}
