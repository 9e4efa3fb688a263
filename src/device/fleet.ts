/**
 * The devices of one process, from its main thread: claims their sockets, starts and stops them, passes their log
 * records on, and knows which there are. VMs come and go without the others noticing. Where a device runs is its
 * runner's business.
 */
import { ConfigError } from "../config/errors.js";
import { connectionCeiling } from "../linux/descriptor-limit.js";
import type { Logger } from "../log/logger.js";
import type { VmConfig } from "./config/vm-config.js";
import { DeviceProcess } from "./device-process.js";
import type { DeviceRunner } from "./device-runner.js";
import { DeviceThread } from "./device-thread.js";
import { CommandRunner } from "./forward/command-runner.js";
import type { GivenSockets } from "./given-sockets.js";
import type { VmReport } from "./metrics/figures.js";
import { claimSockets, releaseSockets, removeSocketFiles, type VmSockets } from "./vm-sockets.js";

export interface FleetOptions {
  readonly log: Logger;
  readonly isolate: "thread" | "process";
  /** Whether the processes of VMs are confined. */
  readonly confined: boolean;
  /** Goes on without any VM, since others may be added. */
  readonly standing: boolean;
}

/** Where sockets come from that are not made here, and what follows when all are there. */
export interface SocketSources {
  /** The VMM's socket of the only VM. */
  readonly fd?: number;
  /** Those that the service manager has made, by CID. */
  readonly given?: ReadonlyMap<number, GivenSockets>;
  /** Called once the sockets are made, and before a device runs. What it throws ends the start. */
  readonly claimed?: () => void;
}

interface Member {
  readonly config: VmConfig;
  readonly runner: DeviceRunner;
  /** Settles, and never rejects, when the device is gone and its files are. */
  readonly gone: Promise<void>;
}

export class Fleet {
  /** Settles when nothing is served any more: rejects if a device failed and none is left. */
  readonly closed: Promise<void>;
  readonly #options: FleetOptions;
  readonly #members = new Map<number, Member>();
  #settle: { readonly resolve: () => void; readonly reject: (reason: unknown) => void };
  #closing = false;
  #failure: { readonly reason: unknown } | undefined;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#settle = { resolve: () => {}, reject: () => {} };
    this.closed = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Whoever cares awaits it; a device that fails later must not end the process as an unhandled rejection.
    this.closed.catch(() => {});
  }

  get configs(): readonly VmConfig[] {
    return [...this.#members.values()].map(({ config }) => config);
  }

  /**
   * Starts a device for each configuration (already checked against each other and against those that are served).
   * All or none: rejects with `StartError` if one cannot be started.
   */
  async add(configs: readonly VmConfig[], from: SocketSources = {}): Promise<void> {
    const { fd, given, claimed } = from;
    const sockets: VmSockets[] = [];
    try {
      for (const config of configs) sockets.push(claimSockets(config, fd, given?.get(config.guestCid)));
      claimed?.();
    } catch (error) {
      sockets.forEach(releaseSockets);
      throw error;
    }
    const members = configs.map((config, index) => this.#start(config, sockets[index]));
    this.#warnOfDescriptors();
    try {
      await Promise.all(members.map(({ runner }) => runner.ready));
    } catch (error) {
      for (const { runner } of members) runner.stop();
      await Promise.all(members.map(({ gone }) => gone));
      throw error;
    }
    configs.forEach(({ guestCid }, index) => {
      for (const { at, guestPort } of sockets[index].listens) {
        const message = `who connects to ${at} is connected to port ${guestPort} of the guest`;
        this.#options.log.log({ event: "listen-served", vm: guestCid, message, fields: { at, guestPort } });
      }
    });
  }

  #start(config: VmConfig, sockets: VmSockets): Member {
    const { isolate, confined, log } = this.#options;
    const commands = new CommandRunner(config, log);
    const runner: DeviceRunner =
      isolate === "process"
        ? new DeviceProcess(config, sockets, log, commands, confined)
        : new DeviceThread(config, sockets, log, commands);
    const gone = runner.ended
      .catch((reason: unknown) => {
        this.#failure ??= { reason };
      })
      .then(() => commands.close())
      .then(() => {
        removeSocketFiles(sockets);
        const message = "the device has stopped";
        this.#options.log.log({ event: "device-stopped", vm: config.guestCid, message });
        this.#members.delete(config.guestCid);
        this.#settleIfOver();
      });
    const member = { config, runner, gone };
    this.#members.set(config.guestCid, member);
    return member;
  }

  #settleIfOver(): void {
    if (this.#members.size > 0 || (this.#options.standing && !this.#closing)) return;
    if (this.#failure !== undefined && !this.#options.standing) this.#settle.reject(this.#failure.reason);
    else this.#settle.resolve();
  }

  #warnOfDescriptors(): void {
    const connections = this.configs.reduce((sum, { maxConnections }) => sum + maxConnections, 0);
    const ceiling = connectionCeiling();
    if (connections <= ceiling) return;
    const message = `${connections} connections are allowed, and this process has descriptors for about ${ceiling}`;
    this.#options.log.log({ event: "descriptor-limit", message, fields: { connections, ceiling } });
  }

  /** Stops the device of one VM; resolves when it is gone, and its sockets with it. */
  async remove(cid: number): Promise<void> {
    const member = this.#members.get(cid);
    if (member === undefined) {
      const served = [...this.#members.keys()].join(", ");
      const problem = `no VM with CID ${cid} is served; ${served === "" ? "none is" : `there are ${served}`}`;
      throw new ConfigError("vm-unknown", "", problem);
    }
    member.runner.stop();
    await member.gone;
  }

  /** What each device says of itself, in the order in which they were added. */
  async reports(): Promise<VmReport[]> {
    return Promise.all(
      [...this.#members.values()].map(async ({ config, runner }): Promise<VmReport> => {
        const answer = await runner.figures();
        return {
          cid: config.guestCid,
          figures: answer?.figures,
          process: answer?.process,
          restarts: runner.restarts,
        };
      }),
    );
  }

  /** Ends all sessions and connections, and removes the socket files. */
  close(): Promise<void> {
    this.#closing = true;
    for (const { runner } of this.#members.values()) runner.stop();
    this.#settleIfOver();
    return this.closed;
  }
}
