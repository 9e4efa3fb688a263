/**
 * The thread of one VM's device, or of those of siblings: an event loop that owns the vhost-user sessions, the rings and the
 * host sockets, so that nothing of them is shared with another thread. Talks to the main thread (`device-thread.ts`) in the
 * messages below; it can receive only when its wake eventfd is written, because it blocks in epoll_wait.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { EventLoop } from "../linux/event-loop.js";
import { createLogger, type LogSink } from "../log/logger.js";
import type { LogLevel } from "../log/record.js";
import { Neighbours } from "../vsock/neighbours.js";
import type { VmConfig } from "./config/vm-config.js";
import type { CommandRequest } from "./forward/command-request.js";
import { Commands } from "./forward/commands.js";
import type { DeviceFigures } from "./metrics/figures.js";
import { type GuestPortSocket, VmDevice, type VmmSocket } from "./vm-device.js";
import type { CommonMessage, CommonStart } from "./worker-thread.js";

/** A VM, with descriptors that the thread closes at its end. */
export interface WorkerVm {
  readonly config: VmConfig;
  readonly vmm: VmmSocket;
  readonly hybridFd: number;
  readonly seqpacketFd: number | undefined;
  readonly listens: readonly GuestPortSocket[];
}

/** What the thread is started with. */
export interface WorkerStart extends CommonStart {
  readonly vms: readonly WorkerVm[];
}

export type FromWorker =
  | CommonMessage
  /** Every socket of a VM is served from now on. */
  | { readonly kind: "served"; readonly cid: number }
  /** A VM's device is gone: it was told to, or has nothing more to serve. */
  | { readonly kind: "gone"; readonly cid: number }
  | { readonly kind: "figures"; readonly id: number; readonly figures: DeviceFigures | undefined }
  /** A command of a VM shall run; the descriptor is the receiver's. */
  | {
      readonly kind: "command";
      readonly cid: number;
      readonly request: CommandRequest & { readonly fd: number };
    }
  | { readonly kind: "command-over"; readonly cid: number; readonly id: number; readonly isCut: boolean };

export type ToWorker =
  | { readonly kind: "add"; readonly vm: WorkerVm }
  | { readonly kind: "close"; readonly cid: number }
  /** How is the device of that VM? `id` comes back with the answer. */
  | { readonly kind: "figures"; readonly id: number; readonly cid: number }
  | { readonly kind: "command-exited"; readonly cid: number; readonly id: number };

/** A VM that is served. */
interface Served {
  readonly device: VmDevice;
  readonly commands: Commands;
}

class DeviceWorker {
  readonly #port: NonNullable<typeof parentPort>;
  readonly #loop: EventLoop;
  readonly #logLevel: LogLevel;
  readonly #neighbours = new Neighbours();
  readonly #vms = new Map<number, Served>();

  constructor({ vms, logLevel, wakeFd }: WorkerStart, port: NonNullable<typeof parentPort>) {
    this.#port = port;
    this.#logLevel = logLevel;
    this.#loop = new EventLoop(wakeFd);
    for (const vm of vms) this.#add(vm);
    this.#post({ kind: "ready" });
  }

  #post(message: FromWorker): void {
    this.#port.postMessage(message);
  }

  #add(vm: WorkerVm): void {
    const cid = vm.config.guestCid;
    const sink: LogSink = ({ level: _, ...entry }) => this.#post({ kind: "log", entry });
    const log = createLogger({ level: this.#logLevel, sink }).child({ vm: cid });
    const commands = new Commands({
      start: (request) => this.#post({ kind: "command", cid, request }),
      over: (id, isCut) => this.#post({ kind: "command-over", cid, id, isCut }),
    });
    const device = new VmDevice({
      ...vm,
      loop: this.#loop,
      log,
      commands,
      neighbours: this.#neighbours,
      // It is still at work when it says so.
      finished: () => this.#loop.setTimer(0, () => this.#end(cid)),
    });
    this.#vms.set(cid, { device, commands });
    this.#post({ kind: "served", cid });
  }

  #end(cid: number): void {
    const vm = this.#vms.get(cid);
    if (vm === undefined) return;
    this.#vms.delete(cid);
    vm.device.close();
    this.#post({ kind: "gone", cid });
    if (this.#vms.size === 0) this.#loop.stop();
  }

  #obey(message: ToWorker): void {
    if (message.kind === "add") this.#add(message.vm);
    else if (message.kind === "close") this.#end(message.cid);
    else if (message.kind === "command-exited") this.#vms.get(message.cid)?.commands.exited(message.id);
    else this.#post({ kind: "figures", id: message.id, figures: this.#vms.get(message.cid)?.device.figures });
  }

  serve(): void {
    try {
      this.#loop.run(() => {
        for (
          let received = receiveMessageOnPort(this.#port);
          received !== undefined;
          received = receiveMessageOnPort(this.#port)
        )
          this.#obey(received.message as ToWorker);
      });
    } finally {
      // After a failed assertion: the VMMs and the host programs find closed sockets, not silent ones.
      for (const { device } of this.#vms.values()) device.close();
      this.#loop.close();
    }
  }
}

if (parentPort !== null) new DeviceWorker(workerData as WorkerStart, parentPort).serve();
