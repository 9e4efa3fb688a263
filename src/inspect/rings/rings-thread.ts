/** The thread that looks at rings (`worker.ts`), as the main thread sees it: what it reports, and how it is ended. */
import { closeSync } from "node:fs";
import { MessageChannel, Worker } from "node:worker_threads";
import { createEventfd, signalEventfd } from "../../linux/eventfd.js";
import type { DeviceType } from "../../virtio/index.js";
import type { Remark } from "../frame.js";
import { type FromRings, type RingReport, type RingsEnd, type RingsStart, weightOf } from "./ring-reports.js";
import type { RingFault, RingPacket, SessionTraffic } from "./traffic.js";

export interface RingsObserver {
  packet(session: number, packet: RingPacket): void;
  fault(session: number, fault: RingFault): void;
  remark(session: number, remark: Remark): void;
}

export interface RingsOptions {
  readonly deviceType: DeviceType | undefined;
  readonly mostPayloadBytes: number;
}

/** Node waits for its Workers when it exits, and one in epoll_wait would not notice. */
const running = new Set<RingsThread>();
process.on("exit", () => {
  for (const thread of running) thread.stop();
});

export class RingsThread {
  /** For the relay. */
  readonly relayEnd: RingsEnd;
  readonly ready: Promise<void>;
  /** Settles once the thread is gone, after everything that it reported; rejects if it failed. */
  readonly ended: Promise<void>;
  readonly #worker: Worker;
  readonly #observer: RingsObserver;
  readonly #seen = new Int32Array(new SharedArrayBuffer(4));
  readonly #isOpen = new Int32Array(new SharedArrayBuffer(4));
  readonly #wakeFd = createEventfd();
  readonly #finished = new Map<number, SessionTraffic>();
  readonly #waiting = new Map<number, (traffic: SessionTraffic) => void>();
  #isGone = false;
  #isStopped = false;

  constructor(options: RingsOptions, observer: RingsObserver) {
    this.#observer = observer;
    const { port1, port2 } = new MessageChannel();
    const shared = { wakeFd: this.#wakeFd, isOpen: this.#isOpen };
    this.relayEnd = { port: port1, ...shared };
    Atomics.store(this.#isOpen, 0, 1);
    const workerData: RingsStart = { ...options, ...shared, port: port2, seen: this.#seen };
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData,
      transferList: [port2],
      trackUnmanagedFds: false,
    });
    let becameReady: () => void;
    const started = new Promise<void>((resolve) => {
      becameReady = resolve;
    });
    this.#worker.on("message", (message: FromRings) => {
      if (message === "ready") becameReady();
      else for (const report of message) this.#tell(report);
    });
    this.ended = new Promise((resolve, reject) => {
      this.#worker.on("error", (error) => {
        this.#leave();
        reject(error);
      });
      this.#worker.on("exit", () => {
        this.#leave();
        resolve();
      });
    });
    this.ready = Promise.race([started, this.ended]);
    this.ended.catch(() => {});
    running.add(this);
  }

  /** Calls `then` once everything of an ended session has been reported, with the figures of its rings. */
  whenFinished(session: number, then: (traffic: SessionTraffic) => void): void {
    const traffic = this.#finished.get(session) ?? (this.#isGone ? new Map() : undefined);
    this.#finished.delete(session);
    if (traffic === undefined) this.#waiting.set(session, then);
    else then(traffic);
  }

  /** Ends the thread, after the relay is gone. May be called more than once. */
  stop(): void {
    if (this.#isGone) return;
    this.#isStopped = true;
    this.#worker.postMessage("stop");
    signalEventfd(this.#wakeFd);
  }

  #tell(report: RingReport): void {
    const { session } = report;
    if (report.kind === "packet") this.#observer.packet(session, report.packet);
    else if (report.kind === "fault") this.#observer.fault(session, report.fault);
    else if (report.kind === "remark") this.#observer.remark(session, report.remark);
    else {
      const then = this.#waiting.get(session);
      this.#waiting.delete(session);
      if (then === undefined) this.#finished.set(session, report.traffic);
      else then(report.traffic);
    }
    Atomics.add(this.#seen, 0, weightOf(report));
  }

  /** Nobody looks any more: sessions go on without. */
  #leave(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    Atomics.store(this.#isOpen, 0, 0);
    running.delete(this);
    for (const then of this.#waiting.values()) then(new Map());
    this.#waiting.clear();
    // Of a thread that failed the relay may be writing it this moment.
    if (this.#isStopped) closeSync(this.#wakeFd);
  }
}
