/** The relay in its thread (`worker.ts`), as the main thread sees it: what it reports, and how it is ended. */
import { closeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { createEventfd, signalEventfd } from "../../linux/eventfd.js";
import type { FrameObserver } from "../frame.js";
import type { FromRelay, RelayStart, Report, ToRelay } from "./worker.js";

/** Follows sessions, and hears of time that passes while nothing is said. */
export interface RelayObserver extends FrameObserver {
  /** Everything before this moment has been reported. */
  time(nowNs: bigint): void;
}

export type RelayThreadOptions = Omit<RelayStart, "wakeFd" | "seen">;

/** Node waits for its Workers when it exits, and one in epoll_wait would not notice. */
const running = new Set<RelayThread>();
process.on("exit", () => {
  for (const thread of running) thread.stop("the inspector ended");
});

export class RelayThread {
  /** Settles once the thread is gone, after everything that it reported; rejects if it failed. */
  readonly ended: Promise<void>;
  readonly ready: Promise<void>;
  readonly #worker: Worker;
  readonly #seen = new Int32Array(new SharedArrayBuffer(4));
  #wakeFd: number | undefined = createEventfd();

  constructor(options: RelayThreadOptions, observer: RelayObserver) {
    const workerData: RelayStart = { ...options, wakeFd: this.#wakeFd ?? -1, seen: this.#seen };
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData,
      transferList: options.rings === undefined ? [] : [options.rings.port],
      // The thread closes descriptors that it got from peers; Node would warn of each.
      trackUnmanagedFds: false,
    });
    let becameReady: () => void;
    const started = new Promise<void>((resolve) => {
      becameReady = resolve;
    });
    this.#worker.on("message", (message: FromRelay) => {
      if (message === "ready") {
        becameReady();
        return;
      }
      for (const report of message) tell(observer, report);
      Atomics.add(this.#seen, 0, message.length);
    });
    this.ended = new Promise((resolve, reject) => {
      this.#worker.on("error", reject);
      this.#worker.on("exit", () => {
        running.delete(this);
        if (this.#wakeFd !== undefined) closeSync(this.#wakeFd);
        this.#wakeFd = undefined;
        resolve();
      });
    });
    this.ready = Promise.race([started, this.ended]);
    this.ended.catch(() => {});
    running.add(this);
  }

  /** Ends every session and the thread. May be called more than once. */
  stop(reason: string): void {
    if (this.#wakeFd === undefined) return;
    this.#worker.postMessage({ kind: "close", reason } satisfies ToRelay);
    signalEventfd(this.#wakeFd);
  }
}

function tell(observer: RelayObserver, report: Report): void {
  if (report.kind === "begun") observer.begun(report.start);
  else if (report.kind === "frame") observer.frame(report.session, report.frame);
  else if (report.kind === "remark") observer.remark(report.session, report.remark);
  else if (report.kind === "ended") observer.ended(report.session, report.end);
  else observer.time(report.nowNs);
}
