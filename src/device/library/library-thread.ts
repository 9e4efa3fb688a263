/** The thread of one library device (`library-worker.ts`), as the main thread sees it: starts, wakes and ends it. */
import { MessageChannel, type MessagePort } from "node:worker_threads";
import type { Logger } from "../../log/logger.js";
import type { VmConfig } from "../config/vm-config.js";
import { type CommonStart, WorkerThread } from "../worker-thread.js";
import type { FromLibraryWorker, LibraryWorkerStart } from "./library-worker.js";
import type { ToDevice } from "./messages.js";

export class LibraryThread {
  readonly ready: Promise<void>;
  readonly ended: Promise<void>;
  /** Where its messages arrive (`FromDevice`). */
  readonly port: MessagePort;
  readonly #stopFlag = new Int32Array(new SharedArrayBuffer(4));
  readonly #thread: WorkerThread<FromLibraryWorker>;

  /** The thread takes over the descriptors of `sockets`. */
  constructor(
    config: VmConfig,
    sockets: Pick<LibraryWorkerStart, "vmm" | "hybridFd" | "seqpacketFd">,
    log: Logger,
  ) {
    const { port1, port2 } = new MessageChannel();
    this.port = port1;
    const stopFlag = this.#stopFlag;
    const start: Omit<LibraryWorkerStart, keyof CommonStart> = {
      config,
      ...sockets,
      library: port2,
      stopFlag,
    };
    this.#thread = new WorkerThread({
      script: new URL("./library-worker.js", import.meta.url),
      start,
      transferList: [port2],
      guestCids: () => [config.guestCid],
      log,
      stop: () => this.stop(),
    });
    this.ready = this.#thread.ready;
    this.ended = this.#thread.ended;
  }

  post(message: ToDevice): void {
    this.port.postMessage(message);
    this.#thread.wake();
  }

  stop(): void {
    Atomics.store(this.#stopFlag, 0, 1);
    this.#thread.wake();
  }
}
