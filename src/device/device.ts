/**
 * Starts and stops the devices of one process, from its main thread: claims the sockets, starts one Worker a VM,
 * passes its log records on. What a device does is the Worker's business (`worker.ts`).
 */
import { closeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { StartError } from "../config/errors.js";
import { connectionCeiling } from "../linux/descriptor-limit.js";
import { createEventfd, signalEventfd } from "../linux/eventfd.js";
import { isListening } from "../linux/unix-socket.js";
import type { Logger } from "../log/logger.js";
import { LOG_LEVELS, type LogLevel } from "../log/record.js";
import { type ClaimedSocket, claimSocket, releaseSocket, removeSocketFile } from "./claim-socket.js";
import type { VmConfig } from "./config/vm-config.js";
import type { FromWorker, ToWorker, WorkerStart } from "./worker.js";

export interface StartOptions {
  readonly log: Logger;
  /** An inherited vhost-user socket, listening or connected, in place of the only VM's `socketPath`. */
  readonly fd?: number;
}

/** Devices that serve. */
export interface RunningDevice {
  /** Settles when nothing is served any more: rejects if a device failed and none is left. */
  readonly closed: Promise<void>;
  /** Ends all sessions and connections, and removes the socket files. */
  close(): Promise<void>;
}

/**
 * Starts a device for each configuration (already checked). Resolves once every socket listens; rejects with
 * `StartError`, and leaves nothing behind, if one cannot.
 */
export async function startDevice(
  configs: readonly VmConfig[],
  options: StartOptions,
): Promise<RunningDevice> {
  const claims: VmSockets[] = [];
  try {
    for (const config of configs) claims.push(claimSockets(config, options.fd));
  } catch (error) {
    for (const { claimed } of claims) claimed.forEach(releaseSocket);
    throw error;
  }
  warnOfDescriptors(configs, options.log);
  const threads = configs.map((config, index) => new DeviceThread(config, claims[index], options.log));
  const closed = Promise.allSettled(threads.map((thread) => thread.ended)).then((outcomes) => {
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  });
  // Whoever cares awaits it; a device that fails later must not end the process as an unhandled rejection.
  closed.catch(() => {});
  const close = (): Promise<void> => {
    for (const thread of threads) thread.stop();
    return closed;
  };
  try {
    await Promise.all(threads.map((thread) => thread.ready));
  } catch (error) {
    await close().catch(() => {});
    throw error;
  }
  return { closed, close };
}

/** The sockets of one VM. */
interface VmSockets {
  readonly vmm: WorkerStart["vmm"];
  readonly hybridFd: number;
  /** Those of them that have files, which go when the VM's device ends. */
  readonly claimed: readonly ClaimedSocket[];
}

function claimSockets(config: VmConfig, inheritedFd: number | undefined): VmSockets {
  const forVmm = config.socketPath === undefined ? undefined : claimSocket(config.socketPath);
  try {
    const vmm = forVmm === undefined ? inherited(inheritedFd) : { fd: forVmm.fd, listening: true };
    const hybrid = claimSocket(config.udsPath, { mode: config.udsMode, gid: config.udsGroup });
    return { vmm, hybridFd: hybrid.fd, claimed: forVmm === undefined ? [hybrid] : [forVmm, hybrid] };
  } catch (error) {
    if (forVmm !== undefined) releaseSocket(forVmm);
    throw error;
  }
}

function warnOfDescriptors(configs: readonly VmConfig[], log: Logger): void {
  const connections = configs.reduce((sum, { maxConnections }) => sum + maxConnections, 0);
  const ceiling = connectionCeiling();
  if (connections <= ceiling) return;
  const message = `${connections} connections are allowed, and this process has descriptors for about ${ceiling}`;
  log.log({ event: "descriptor-limit", message, fields: { connections, ceiling } });
}

function inherited(fd: number | undefined): WorkerStart["vmm"] {
  if (fd === undefined) throw new TypeError("a VM without socketPath needs an inherited descriptor");
  try {
    return { fd, listening: isListening(fd) };
  } catch (cause) {
    throw new StartError("fd-unusable", `--fd ${fd}`, "it is not a socket that can carry vhost-user", {
      cause,
    });
  }
}

function levelOf(log: Logger): LogLevel {
  return [...LOG_LEVELS].reverse().find((level) => log.passes(level)) ?? "error";
}

/** Node waits for its Workers when it exits, and one in epoll_wait would not notice. */
const running = new Set<DeviceThread>();
process.on("exit", () => {
  for (const thread of running) thread.stop();
});

/** The Worker of one VM, seen from the main thread. */
class DeviceThread {
  /** Resolves when the device serves; rejects if its thread ends before. */
  readonly ready: Promise<void>;
  /** Settles when the thread has ended; rejects if it failed. */
  readonly ended: Promise<void>;
  readonly #worker: Worker;
  #wakeFd: number | undefined;

  constructor(config: VmConfig, { vmm, hybridFd, claimed }: VmSockets, log: Logger) {
    this.#wakeFd = createEventfd();
    const workerData: WorkerStart = { config, vmm, hybridFd, logLevel: levelOf(log), wakeFd: this.#wakeFd };
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData,
      // The thread closes descriptors that it got from here and from peers; Node would warn of each.
      trackUnmanagedFds: false,
    });
    const vmLog = log.child({ vm: config.guestCid });
    let becameReady: () => void;
    const started = new Promise<void>((resolve) => {
      becameReady = resolve;
    });
    this.#worker.on("message", (message: FromWorker) => {
      if (message.kind === "log") log.log(message.entry);
      else becameReady();
    });
    this.ended = new Promise((resolve, reject) => {
      this.#worker.on("error", (error: Error) => {
        vmLog.log({
          event: "internal-error",
          message: `the device's thread failed: ${error.stack ?? String(error)}`,
        });
        reject(error);
      });
      this.#worker.on("exit", () => {
        running.delete(this);
        claimed.forEach(removeSocketFile);
        vmLog.log({ event: "device-stopped", message: "the device has stopped" });
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

  stop(): void {
    if (this.#wakeFd === undefined) return;
    const message: ToWorker = { kind: "close" };
    this.#worker.postMessage(message);
    signalEventfd(this.#wakeFd);
  }
}
