/** One VM's device in a thread of this process (`worker.ts`), as the main thread sees it. */
import type { Logger } from "../log/logger.js";
import type { VmConfig } from "./config/vm-config.js";
import { type CommandService, type DeviceRunner, Questions, type RunnerFigures } from "./device-runner.js";
import type { DeviceFigures } from "./metrics/figures.js";
import type { GuestPortSocket } from "./vm-device.js";
import type { VmSockets } from "./vm-sockets.js";
import type { FromWorker, ToWorker, WorkerStart } from "./worker.js";
import { type CommonStart, WorkerThread } from "./worker-thread.js";

/** What a device is served on, wherever it was claimed. */
export type DeviceSockets = Pick<VmSockets, "vmm" | "hybridFd" | "seqpacketFd"> & {
  readonly listens: readonly GuestPortSocket[];
};

export class DeviceThread implements DeviceRunner {
  readonly ready: Promise<void>;
  readonly ended: Promise<void>;
  readonly restarts = 0;
  readonly #thread: WorkerThread<FromWorker>;
  readonly #questions = new Questions<DeviceFigures>();

  /** Takes over the descriptors of `sockets`, and closes them at its end. */
  constructor(config: VmConfig, sockets: DeviceSockets, log: Logger, commands: CommandService) {
    const { vmm, hybridFd, seqpacketFd, listens } = sockets;
    const start: Omit<WorkerStart, keyof CommonStart> = { config, vmm, hybridFd, seqpacketFd, listens };
    this.#thread = new WorkerThread({
      script: new URL("./worker.js", import.meta.url),
      start,
      guestCid: config.guestCid,
      log,
      onMessage: (message) => {
        if (message.kind === "figures") this.#questions.answer(message.id, message.figures);
        else if (message.kind === "command") commands.start(message.request);
        else commands.over(message.id, message.isCut);
      },
      stop: () => this.stop(),
    });
    commands.exited = (id) => this.#send({ kind: "command-exited", id });
    this.ready = this.#thread.ready;
    this.ended = this.#thread.ended.finally(() => {
      this.#questions.giveUp();
      commands.endAll();
    });
    this.ended.catch(() => {});
  }

  stop(): void {
    this.#send({ kind: "close" });
  }

  async figures(): Promise<RunnerFigures | undefined> {
    if (!this.#thread.isRunning) return undefined;
    const figures = await this.#questions.ask((id) => this.#send({ kind: "figures", id }));
    return figures && { figures };
  }

  #send(message: ToWorker): void {
    this.#thread.post(message);
  }
}
