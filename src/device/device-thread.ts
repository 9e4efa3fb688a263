/** One VM's device, or those of siblings, in a thread of this process (`worker.ts`), as the main thread sees it. */
import type { Logger } from "../log/logger.js";
import { type DeviceRunner, Endings, Questions, type RunnerFigures, type RunnerVm } from "./device-runner.js";
import type { DeviceFigures } from "./metrics/figures.js";
import type { FromWorker, ToWorker, WorkerStart, WorkerVm } from "./worker.js";
import { type CommonMessage, type CommonStart, WorkerThread } from "./worker-thread.js";

export class DeviceThread implements DeviceRunner {
  readonly ready: Promise<void>;
  readonly restarts = 0;
  readonly #thread: WorkerThread<FromWorker>;
  readonly #questions = new Questions<DeviceFigures>();
  readonly #endings = new Endings();
  /** Those that are not gone. */
  readonly #vms = new Map<number, RunnerVm>();
  /** Who waits for a VM to be served. */
  readonly #starting = new Map<number, () => void>();

  constructor(vms: readonly RunnerVm[], log: Logger) {
    const start: Omit<WorkerStart, keyof CommonStart> = { vms: vms.map(workerVm) };
    this.#thread = new WorkerThread({
      script: new URL("./worker.js", import.meta.url),
      start,
      guestCids: () => [...this.#vms.keys()],
      log,
      onMessage: (message) => this.#receive(message),
      stop: () => this.stopAll(),
    });
    this.ready = Promise.all(vms.map((vm) => this.#served(vm))).then(() => {});
    this.ready.catch(() => {});
    const over = (failure?: unknown) => {
      this.#questions.giveUp();
      for (const cid of [...this.#vms.keys()]) this.#gone(cid, failure);
    };
    this.#thread.ended.then(() => over(), over);
  }

  #receive(message: Exclude<FromWorker, CommonMessage>): void {
    switch (message.kind) {
      case "figures":
        this.#questions.answer(message.id, message.figures);
        return;
      case "served":
        this.#starting.get(message.cid)?.();
        return;
      case "gone":
        this.#gone(message.cid);
        return;
      case "command":
        this.#vms.get(message.cid)?.commands.start(message.request);
        return;
      case "command-over":
        this.#vms.get(message.cid)?.commands.over(message.id, message.isCut);
        return;
    }
  }

  #gone(cid: number, failure?: unknown): void {
    this.#vms.get(cid)?.commands.endAll();
    this.#vms.delete(cid);
    this.#starting.delete(cid);
    this.#endings.end(cid, failure);
  }

  /** Resolves when `vm` is served; rejects if it is gone before for a reason of its own. */
  #served(vm: RunnerVm): Promise<void> {
    const { guestCid } = vm.config;
    this.#vms.set(guestCid, vm);
    vm.commands.exited = (id) => this.#send({ kind: "command-exited", cid: guestCid, id });
    this.#endings.begin(guestCid);
    const started = new Promise<void>((resolve) => this.#starting.set(guestCid, resolve));
    return Promise.race([started, this.#endings.of(guestCid)]);
  }

  add(vm: RunnerVm): Promise<void> {
    const served = this.#served(vm);
    this.#send({ kind: "add", vm: workerVm(vm) });
    return served;
  }

  ended(cid: number): Promise<void> {
    return this.#endings.of(cid);
  }

  stop(cid: number): void {
    this.#send({ kind: "close", cid });
  }

  stopAll(): void {
    for (const cid of this.#vms.keys()) this.stop(cid);
  }

  async figures(cid: number): Promise<RunnerFigures | undefined> {
    if (!this.#thread.isRunning) return undefined;
    const figures = await this.#questions.ask((id) => this.#send({ kind: "figures", id, cid }));
    return figures && { figures };
  }

  #send(message: ToWorker): void {
    this.#thread.post(message);
  }
}

function workerVm({ config, sockets: { vmm, hybridFd, seqpacketFd, listens } }: RunnerVm): WorkerVm {
  // What was claimed besides stays with the main thread.
  const ports = listens.map(({ fd, guestPort }) => ({ fd, guestPort }));
  return { config, vmm, hybridFd, seqpacketFd, listens: ports };
}
