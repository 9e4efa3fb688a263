/**
 * One VM's device within its thread: accepts the VMM's vhost-user sessions one after the other, and keeps the switch
 * and the host programs' socket through all of them.
 */
import { closeSync } from "node:fs";
import { connectionCeiling } from "../linux/descriptor-limit.js";
import { EPOLLIN } from "../linux/epoll.js";
import { errno, errnoName, SystemCallError } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import { acceptUnix } from "../linux/unix-socket.js";
import { limited } from "../log/limited.js";
import type { Logger } from "../log/logger.js";
import type { IotlbStatistics } from "../memory/iotlb.js";
import type { SessionPolicy } from "../vhost/backend-device.js";
import { BackendSession } from "../vhost/backend-session.js";
import { GuestPortListener } from "../vsock/guest-port-listener.js";
import { SocketType } from "../vsock/header.js";
import type { HostEndpoints } from "../vsock/host-endpoints.js";
import { HybridEndpoints } from "../vsock/hybrid-endpoints.js";
import { HybridListener } from "../vsock/hybrid-listener.js";
import { DEFAULT_LIMITS, type SwitchLimits } from "../vsock/limits.js";
import type { Neighbours } from "../vsock/neighbours.js";
import { type SwitchOptions, VsockSwitch } from "../vsock/switch.js";
import type { VmConfig } from "./config/vm-config.js";
import type { Commands } from "./forward/commands.js";
import { forwardingParts } from "./forward/forward-endpoints.js";
import { addIotlb, type DeviceFigures, type Mode, queueFigures } from "./metrics/figures.js";
import { QueueCounters } from "./metrics/queue-counters.js";
import { VsockBackend } from "./vsock-backend.js";

/** Where the VMM is: a socket that listens for it, or one that it is connected to already. */
export interface VmmSocket {
  readonly fd: number;
  readonly listening: boolean;
}

/** A listening socket, TCP or Unix, that stands for a port of the guest. */
export interface GuestPortSocket {
  readonly fd: number;
  readonly guestPort: number;
}

export interface VmDeviceOptions {
  readonly loop: EventLoop;
  readonly config: VmConfig;
  readonly vmm: VmmSocket;
  /** The listening socket of `config.udsPath`; undefined if host programs have none. */
  readonly hybridFd: number | undefined;
  /** That of its seqpacket sibling; undefined if there is none. */
  readonly seqpacketFd?: number | undefined;
  readonly listens?: readonly GuestPortSocket[];
  /** Runs what ports are forwarded to; without it, ports are not forwarded. */
  readonly commands?: Commands;
  readonly log: Logger;
  /** The VMs of this thread, its siblings among them. */
  readonly neighbours?: Neighbours;
  /** Nothing will ever be served again: the one connected VMM that was inherited has left. */
  readonly finished: () => void;
  readonly parts?: DeviceParts;
}

/** Parts of a device that somebody else makes, who serves its ports himself (`library/`). */
export interface DeviceParts {
  /** `fallback` is what would be behind the ports otherwise; descriptors from `descriptorCeiling` on are left to others. */
  endpoints(fallback: HostEndpoints | undefined, descriptorCeiling: number): HostEndpoints;
  vsockSwitch(options: SwitchOptions): VsockSwitch;
  backend(...parts: ConstructorParameters<typeof VsockBackend>): VsockBackend;
}

const USUAL_PARTS: DeviceParts = {
  endpoints: (fallback) => fallback ?? { connect: () => -errno.ENOENT },
  vsockSwitch: (options) => new VsockSwitch(options),
  backend: (...parts) => new VsockBackend(...parts),
};

/** What a device is made of when nobody else makes its parts. */
function usualParts({ loop, config, commands }: VmDeviceOptions): DeviceParts {
  if (config.forwards.length === 0 || commands === undefined) return USUAL_PARTS;
  return { ...USUAL_PARTS, ...forwardingParts(loop, config, commands) };
}

/** Nobody keeps more clients without a complete line than this, however many connections are allowed. */
const MOST_HANDSHAKES = 256;

/**
 * Log records a second of one event: what a guest or a host program can provoke at will, and what takes a VMM's part
 * in it (above the 509 memory regions that one may announce at once).
 */
const PROVOKED_RECORDS_A_SECOND = 20;
const SESSION_RECORDS_A_SECOND = 1000;

export class VmDevice {
  readonly #options: VmDeviceOptions;
  readonly #sessionLog: Logger;
  readonly #switch: VsockSwitch;
  /** Where host programs ask for a guest port (streams, and seqpacket sockets if those are offered), or reach a certain one. */
  readonly #listeners: { close(): void }[];
  #listenToken: number | undefined;
  #session: BackendSession | undefined;
  readonly #queueCounters = new QueueCounters();
  #sessions = 0;
  /** Of the sessions that are over. */
  #iotlbOfEnded = NO_IOTLB;
  #closed = false;

  constructor(options: VmDeviceOptions) {
    this.#options = options;
    const { loop, config, hybridFd, parts = usualParts(options) } = options;
    const log = limited(options.log, PROVOKED_RECORDS_A_SECOND);
    this.#sessionLog = limited(options.log, SESSION_RECORDS_A_SECOND);
    const descriptorCeiling = connectionCeiling();
    const hybrid =
      hybridFd === undefined ? undefined : new HybridEndpoints(config.udsPath, descriptorCeiling);
    this.#switch = parts.vsockSwitch({
      loop,
      log,
      guestCid: config.guestCid,
      endpoints: parts.endpoints(hybrid, descriptorCeiling),
      limits: limitsOf(config),
      ...(options.neighbours && { siblings: { neighbours: options.neighbours, groups: config.groups } }),
    });
    const mostClients = Math.min(MOST_HANDSHAKES, config.maxConnections);
    const { handshakeTimeoutMs } = config;
    const shared = { loop, log, connector: this.#switch, descriptorCeiling };
    const listen = (fd: number, type: number) =>
      new HybridListener({ ...shared, fd, type, mostClients, handshakeTimeoutMs });
    this.#listeners = hybridFd === undefined ? [] : [listen(hybridFd, SocketType.STREAM)];
    if (options.seqpacketFd !== undefined)
      this.#listeners.push(listen(options.seqpacketFd, SocketType.SEQPACKET));
    for (const { fd, guestPort } of options.listens ?? [])
      this.#listeners.push(new GuestPortListener({ ...shared, fd, guestPort }));
    if (options.vmm.listening) this.#listen();
    else this.#serve(options.vmm.fd);
  }

  /** One VMM at a time: while one is served, the next waits in the backlog. */
  #listen(): void {
    const { loop, vmm } = this.#options;
    this.#listenToken = loop.watch(vmm.fd, EPOLLIN, { onEvents: () => this.#accept() });
  }

  #stopListening(): void {
    if (this.#listenToken === undefined) return;
    this.#options.loop.unwatch(this.#options.vmm.fd, this.#listenToken);
    this.#listenToken = undefined;
  }

  #accept(): void {
    const fd = acceptUnix(this.#options.vmm.fd);
    if (fd === -errno.EAGAIN || fd === -errno.EINTR || fd === -errno.ECONNABORTED) return;
    this.#stopListening();
    if (fd >= 0) this.#serve(fd);
    else this.#acceptLater(`accepting a VMM failed with ${errnoName(-fd)}`);
  }

  /** Out of descriptors or memory: looking away for a moment is all that helps. */
  #acceptLater(problem: string): void {
    const message = `${problem}; trying again in ${ACCEPT_PAUSE_MS} ms`;
    this.#sessionLog.log({ event: "accept-failed", message });
    this.#options.loop.setTimer(ACCEPT_PAUSE_MS, () => {
      if (!this.#closed && this.#session === undefined) this.#listen();
    });
  }

  #serve(fd: number): void {
    const { loop, config, vmm, finished, parts = USUAL_PARTS } = this.#options;
    const log = this.#sessionLog;
    const ended = () => this.#sessionEnded();
    const { guestCid, seqpacket } = config;
    const counters = this.#queueCounters;
    const device = parts.backend(loop, this.#switch, guestCid, log, ended, seqpacket, counters);
    try {
      this.#session = new BackendSession({ loop, fd, device, policy: policyOf(config), log });
      this.#sessions++;
    } catch (error) {
      if (!(error instanceof SystemCallError)) throw error;
      device.detach();
      closeSync(fd);
      if (vmm.listening) this.#acceptLater(`serving a VMM failed: ${error.message}`);
      else finished();
    }
  }

  #sessionEnded(): void {
    if (this.#session !== undefined)
      this.#iotlbOfEnded = addIotlb(this.#iotlbOfEnded, this.#session.iotlbStatistics);
    this.#session = undefined;
    if (this.#closed) return;
    if (this.#options.vmm.listening) this.#listen();
    else this.#options.finished();
  }

  /** The device's numbers at this moment. */
  get figures(): DeviceFigures {
    const session = this.#session;
    return {
      connections: this.#switch.connectionCount,
      sessions: this.#sessions,
      mode: session === undefined ? "none" : modeOf(session),
      vsock: this.#switch.counters,
      queues: queueFigures(this.#queueCounters),
      iotlb:
        session === undefined ? this.#iotlbOfEnded : addIotlb(this.#iotlbOfEnded, session.iotlbStatistics),
    };
  }

  /** Ends the session, all connections and all listeners. */
  close(): void {
    this.#closed = true;
    this.#stopListening();
    this.#session?.end("the device is being stopped");
    this.#switch.close();
    for (const listener of this.#listeners) listener.close();
    if (this.#options.vmm.listening) closeSync(this.#options.vmm.fd);
  }
}

const NO_IOTLB: IotlbStatistics = { hits: 0, misses: 0, updates: 0, invalidations: 0, retired: 0 };

/** How long accepting pauses when this process can open no more descriptors. */
const ACCEPT_PAUSE_MS = 100;

/** Twice the part of the total that is left to the last connections (`VsockSwitch`): eight of full size fit before. */
const FULL_BUFFERS = 16;

function modeOf(session: BackendSession): Mode {
  const { state } = session.translation;
  return state === "on" || state === "off" ? state : "undecided";
}

function limitsOf(config: VmConfig): SwitchLimits {
  return {
    ...DEFAULT_LIMITS,
    bufferBytes: config.txBufferBytes,
    // So that a few connections get what was asked for, however large it is.
    totalBufferBytes:
      config.totalBufferBytes ??
      Math.max(DEFAULT_LIMITS.totalBufferBytes, FULL_BUFFERS * config.txBufferBytes),
    maxConnections: config.maxConnections,
    connectTimeoutMs: config.connectTimeoutMs,
    shutdownTimeoutMs: config.shutdownTimeoutMs,
  };
}

function policyOf(config: VmConfig): SessionPolicy {
  return {
    iotlb: config.iotlb,
    explicitBit: config.explicitBit,
    accessPlatform: config.accessPlatform,
    probationMs: config.probationMs,
    queueSizeMax: config.queueSize,
  };
}
