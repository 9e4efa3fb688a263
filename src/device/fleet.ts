/**
 * The devices of one process, from its main thread: claims their sockets, starts and stops them, passes their log
 * records on, and knows which there are. VMs come and go without the others noticing. Siblings have one runner
 * (`config/siblings.ts`); where it runs them is its business.
 */
import { ConfigError } from "../config/errors.js";
import { connectionCeiling } from "../linux/descriptor-limit.js";
import type { Logger } from "../log/logger.js";
import { groupsOf, households, type Isolation } from "./config/siblings.js";
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
  readonly isolate: Isolation;
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

interface ClaimedVm {
  readonly config: VmConfig;
  readonly sockets: VmSockets;
}

interface Starting {
  readonly ready: Promise<unknown>;
  readonly members: readonly Member[];
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
    const runners = [...new Set([...this.#members.values()].map(({ runner }) => runner))];
    const served = runners.map((runner) => this.#configsOf(runner));
    const planned = households(served, configs, this.#options.isolate);
    const sockets: VmSockets[] = [];
    try {
      for (const config of configs)
        sockets.push(claimSockets(config, from.fd, from.given?.get(config.guestCid)));
      from.claimed?.();
    } catch (error) {
      sockets.forEach(releaseSockets);
      throw error;
    }
    const claimed = configs.map((config, index) => ({ config, sockets: sockets[index] }));
    const starting = planned.map(({ joins, vms }) => {
      const cids = vms.map(({ guestCid }) => guestCid);
      const household = claimed.filter(({ config }) => cids.includes(config.guestCid));
      return this.#start(household, joins === undefined ? undefined : runners[joins]);
    });
    this.#warnOfDescriptors();
    try {
      await Promise.all(starting.map(({ ready }) => ready));
    } catch (error) {
      for (const { members } of starting) for (const member of members) stop(member);
      await Promise.all(starting.flatMap(({ members }) => members.map(({ gone }) => gone)));
      throw error;
    }
    configs.forEach(({ guestCid }, index) => {
      for (const { at, guestPort } of sockets[index].listens) {
        const message = `who connects to ${at} is connected to port ${guestPort} of the guest`;
        this.#options.log.log({ event: "listen-served", vm: guestCid, message, fields: { at, guestPort } });
      }
    });
  }

  /** Starts VMs that share a thread: in `running`, which serves siblings of theirs, or in a new one. */
  #start(vms: readonly ClaimedVm[], running: DeviceRunner | undefined): Starting {
    const { isolate, confined, log } = this.#options;
    // What a VM is to its thread: a member of those groups that count.
    const served = vms.map((vm) => ({
      ...vm,
      config: { ...vm.config, groups: groupsOf(vm.config, isolate) },
      commands: new CommandRunner(vm.config, log),
    }));
    this.#tellOfSiblings([...vms.map(({ config }) => config), ...(running ? this.#configsOf(running) : [])]);
    let ready: Promise<unknown>;
    let runner = running;
    if (runner?.add === undefined) {
      runner =
        isolate === "process" ? new DeviceProcess(served, log, confined) : new DeviceThread(served, log);
      ready = runner.ready;
    } else {
      const { add } = runner;
      ready = Promise.all(served.map((vm) => add.call(running, vm)));
    }
    const by = runner;
    return { ready, members: vms.map((vm, index) => this.#enter(vm, served[index].commands, by)) };
  }

  #tellOfSiblings(household: readonly VmConfig[]): void {
    if (household.length < 2) return;
    const cids = household.map(({ guestCid }) => guestCid).join(", ");
    const names = household.flatMap((config) => groupsOf(config, this.#options.isolate));
    const groups = [...new Set(names.filter((name, index) => names.indexOf(name) !== index))].join("+");
    const message = `VMs ${cids} share groups (${groups}): those with one in common reach each other by CID`;
    this.#options.log.log({ event: "siblings", message, fields: { cids, groups } });
  }

  #enter({ config, sockets }: ClaimedVm, commands: CommandRunner, runner: DeviceRunner): Member {
    const gone = runner
      .ended(config.guestCid)
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

  #configsOf(runner: DeviceRunner): VmConfig[] {
    return [...this.#members.values()].flatMap((member) => (member.runner === runner ? member.config : []));
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
    stop(member);
    await member.gone;
  }

  /** What each device says of itself, in the order in which they were added. */
  async reports(): Promise<VmReport[]> {
    return Promise.all(
      [...this.#members.values()].map(async ({ config, runner }): Promise<VmReport> => {
        const answer = await runner.figures(config.guestCid);
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
    for (const member of this.#members.values()) stop(member);
    this.#settleIfOver();
    return this.closed;
  }
}

function stop({ config, runner }: Member): void {
  runner.stop(config.guestCid);
}
