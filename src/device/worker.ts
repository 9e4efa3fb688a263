/**
 * The thread of one VM's device: an event loop that owns the vhost-user session, the rings and the host sockets, so
 * that nothing of them is shared with another thread. Talks to the main thread (`device.ts`) in the messages below;
 * it can receive only when its wake eventfd is written, because it blocks in epoll_wait.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { EventLoop } from "../linux/event-loop.js";
import { createLogger, type LogSink } from "../log/logger.js";
import type { VmConfig } from "./config/vm-config.js";
import type { CommandRequest } from "./forward/command-request.js";
import { Commands } from "./forward/commands.js";
import type { DeviceFigures } from "./metrics/figures.js";
import { type GuestPortSocket, VmDevice, type VmmSocket } from "./vm-device.js";
import type { CommonMessage, CommonStart } from "./worker-thread.js";

/** What the thread is started with. */
export interface WorkerStart extends CommonStart {
  readonly config: VmConfig;
  readonly vmm: VmmSocket;
  readonly hybridFd: number;
  readonly seqpacketFd: number | undefined;
  readonly listens: readonly GuestPortSocket[];
}

export type FromWorker =
  | CommonMessage
  | { readonly kind: "figures"; readonly id: number; readonly figures: DeviceFigures }
  /** A command shall run; the descriptor is the receiver's. */
  | { readonly kind: "command"; readonly request: CommandRequest & { readonly fd: number } }
  | { readonly kind: "command-over"; readonly id: number; readonly isCut: boolean };

export type ToWorker =
  | { readonly kind: "close" }
  /** How is the device? `id` comes back with the answer. */
  | { readonly kind: "figures"; readonly id: number }
  | { readonly kind: "command-exited"; readonly id: number };

function serve(start: WorkerStart, port: NonNullable<typeof parentPort>): void {
  const post = (message: FromWorker) => port.postMessage(message);
  const sink: LogSink = ({ level: _, ...entry }) => post({ kind: "log", entry });
  const log = createLogger({ level: start.logLevel, sink }).child({ vm: start.config.guestCid });
  const loop = new EventLoop(start.wakeFd);
  const commands = new Commands({
    start: (request) => post({ kind: "command", request }),
    over: (id, isCut) => post({ kind: "command-over", id, isCut }),
  });
  const device = new VmDevice({ ...start, commands, loop, log, finished: () => loop.stop() });
  post({ kind: "ready" });
  try {
    loop.run(() => {
      for (
        let received = receiveMessageOnPort(port);
        received !== undefined;
        received = receiveMessageOnPort(port)
      ) {
        const message = received.message as ToWorker;
        if (message.kind === "close") loop.stop();
        else if (message.kind === "command-exited") commands.exited(message.id);
        else post({ kind: "figures", id: message.id, figures: device.figures });
      }
    });
  } finally {
    // After a failed assertion as well: the VMM and the host programs find closed sockets, not silent ones.
    device.close();
    loop.close();
  }
}

if (parentPort !== null) serve(workerData as WorkerStart, parentPort);
