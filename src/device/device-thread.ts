/** One VM's device in a thread of this process (`worker.ts`), as the main thread sees it. */
import { closeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { createEventfd, signalEventfd } from "../linux/eventfd.js";
import type { Logger } from "../log/logger.js";
import { LOG_LEVELS, type LogLevel } from "../log/record.js";
import type { VmConfig } from "./config/vm-config.js";
import { type CommandService, type DeviceRunner, Questions, type RunnerFigures } from "./device-runner.js";
import type { DeviceFigures } from "./metrics/figures.js";
import type { GuestPortSocket } from "./vm-device.js";
import type { VmSockets } from "./vm-sockets.js";
import type { FromWorker, ToWorker, WorkerStart } from "./worker.js";

/** Node waits for its Workers when it exits, and one in epoll_wait would not notice. */
const running = new Set<DeviceThread>();
process.on("exit", () => {
  for (const thread of running) thread.stop();
});

/** What a device is served on, wherever it was claimed. */
export type DeviceSockets = Pick<VmSockets, "vmm" | "hybridFd" | "seqpacketFd"> & {
  readonly listens: readonly GuestPortSocket[];
};

export class DeviceThread implements DeviceRunner {
  readonly ready: Promise<void>;
  readonly ended: Promise<void>;
  readonly restarts = 0;
  readonly #worker: Worker;
  readonly #questions = new Questions<DeviceFigures>();
  #wakeFd: number | undefined;

  /** Takes over the descriptors of `sockets`, and closes them at its end. */
  constructor(config: VmConfig, sockets: DeviceSockets, log: Logger, commands: CommandService) {
    this.#wakeFd = createEventfd();
    const { vmm, hybridFd, seqpacketFd, listens } = sockets;
    const [logLevel, wakeFd] = [levelOf(log), this.#wakeFd];
    const workerData: WorkerStart = { config, vmm, hybridFd, seqpacketFd, listens, logLevel, wakeFd };
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData,
      // The thread closes descriptors that it got from here and from peers; Node would warn of each.
      trackUnmanagedFds: false,
    });
    let becameReady: () => void;
    const started = new Promise<void>((resolve) => {
      becameReady = resolve;
    });
    this.#worker.on("message", (message: FromWorker) => {
      if (message.kind === "log") log.log(message.entry);
      else if (message.kind === "figures") this.#questions.answer(message.id, message.figures);
      else if (message.kind === "command") commands.start(message.request);
      else if (message.kind === "command-over") commands.over(message.id, message.isCut);
      else becameReady();
    });
    commands.exited = (id) => this.#send({ kind: "command-exited", id });
    this.ended = new Promise((resolve, reject) => {
      this.#worker.on("error", (error: Error) => {
        const message = `the device's thread failed: ${error.stack ?? String(error)}`;
        log.log({ event: "internal-error", vm: config.guestCid, message });
        reject(error);
      });
      this.#worker.on("exit", () => {
        running.delete(this);
        // The thread is gone, and nobody but this object writes its eventfd.
        if (this.#wakeFd !== undefined) closeSync(this.#wakeFd);
        this.#wakeFd = undefined;
        this.#questions.giveUp();
        commands.endAll();
        resolve();
      });
    });
    this.ready = Promise.race([started, this.ended]);
    this.ended.catch(() => {});
    running.add(this);
  }

  stop(): void {
    this.#send({ kind: "close" });
  }

  async figures(): Promise<RunnerFigures | undefined> {
    if (this.#wakeFd === undefined) return undefined;
    const figures = await this.#questions.ask((id) => this.#send({ kind: "figures", id }));
    return figures && { figures };
  }

  /** The thread looks for messages when its eventfd is written: it blocks in epoll_wait. */
  #send(message: ToWorker): void {
    if (this.#wakeFd === undefined) return;
    this.#worker.postMessage(message);
    signalEventfd(this.#wakeFd);
  }
}

export function levelOf(log: Logger): LogLevel {
  return [...LOG_LEVELS].reverse().find((level) => log.passes(level)) ?? "error";
}
