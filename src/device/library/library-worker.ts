/**
 * The thread of a device that the library serves: as `worker.ts`, and its ports are the library's. It looks for messages
 * when its wake eventfd is written, because it blocks in epoll_wait.
 */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { EventLoop } from "../../linux/event-loop.js";
import { createLogger, type LogSink } from "../../log/logger.js";
import type { VmConfig } from "../config/vm-config.js";
import { VmDevice, type VmmSocket } from "../vm-device.js";
import type { CommonMessage, CommonStart } from "../worker-thread.js";
import { LibrarySide } from "./library-side.js";

/** What the thread is started with. */
export interface LibraryWorkerStart extends CommonStart {
  readonly config: VmConfig;
  readonly vmm: VmmSocket;
  readonly hybridFd: number | undefined;
  readonly seqpacketFd: number | undefined;
  /** For the messages of `messages.ts`. */
  readonly library: MessagePort;
  /** The first element is not 0 once the thread shall end. */
  readonly stopFlag: Int32Array;
}

/** What it posts to its parent; all else goes over `library`. */
export type FromLibraryWorker = CommonMessage;

function serve(start: LibraryWorkerStart, parent: NonNullable<typeof parentPort>): void {
  const post = (message: FromLibraryWorker) => parent.postMessage(message);
  const sink: LogSink = ({ level: _, ...entry }) => post({ kind: "log", entry });
  const log = createLogger({ level: start.logLevel, sink }).child({ vm: start.config.guestCid });
  const loop = new EventLoop(start.wakeFd);
  const library = new LibrarySide(start.library);
  const device = new VmDevice({ ...start, parts: library, loop, log, finished: () => loop.stop() });
  post({ kind: "ready" });
  try {
    loop.run(() => {
      if (Atomics.load(start.stopFlag, 0) !== 0) loop.stop();
      else library.receive();
    });
  } finally {
    device.close();
    loop.close();
    library.close();
  }
}

if (parentPort !== null) serve(workerData as LibraryWorkerStart, parentPort);
