/**
 * Host endpoints that an operator has named (`--forward`): a TCP address, a Unix socket or a command for a port of the host. Nothing
 * here blocks: a TCP connection that is not decided at once is tried again, as a Unix listener with a full backlog is,
 * and the guest hears of it when it is decided. Ports that are not forwarded fall back to what is behind them otherwise.
 */
import { closeDescriptor } from "../../linux/close.js";
import { errno } from "../../linux/errors.js";
import type { EventLoop } from "../../linux/event-loop.js";
import { connectTcp, type TcpAddress, tryCreateTcpSocket } from "../../linux/tcp-socket.js";
import type { Timer } from "../../linux/timers.js";
import { connectUnix, tryCreateSocket } from "../../linux/unix-socket.js";
import type { Connection } from "../../vsock/connection.js";
import { SocketType } from "../../vsock/header.js";
import type { HostEndpoints } from "../../vsock/host-endpoints.js";
import { type SwitchOptions, VsockSwitch } from "../../vsock/switch.js";
import type { Forward } from "../config/forwards.js";
import type { VmConfig } from "../config/vm-config.js";
import type { Commands } from "./commands.js";

/** A TCP connection that is on its way. */
interface Attempt {
  readonly fd: number;
  readonly untilMs: number;
}

/** TCP attempts of one port whose guest may have given up: more of them are not begun. */
const MOST_ATTEMPTS = 1024;

export class ForwardEndpoints implements HostEndpoints {
  /** The switch asks again for a connection that it was told to retry. */
  isRetry = false;
  readonly #targets: ReadonlyMap<number, Forward["target"]>;
  /**
   * By port, the oldest first. Those of one port are alike, so a retry takes whichever is decided: as many are begun as
   * connections were asked for.
   */
  readonly #attempts = new Map<number, Attempt[]>();
  #sweep: Timer | undefined;

  constructor(
    private readonly options: {
      readonly loop: EventLoop;
      readonly forwards: readonly Forward[];
      readonly fallback: HostEndpoints;
      readonly connectTimeoutMs: number;
      readonly commands: Commands;
      /** Descriptors from this number on are left to others (`connectionCeiling`). */
      readonly descriptorCeiling: number;
    },
  ) {
    this.#targets = new Map(options.forwards.map(({ hostPort, target }) => [hostPort, target]));
  }

  connect(hostPort: number, type: number, guestPort: number): number {
    const target = this.#targets.get(hostPort);
    if (target === undefined) return this.options.fallback.connect(hostPort, type, guestPort);
    // Neither TCP nor a Unix stream socket keeps message boundaries.
    if (type !== SocketType.STREAM) return -errno.EPROTOTYPE;
    if (target.kind === "exec")
      return this.options.commands.connect(hostPort, guestPort, this.options.descriptorCeiling);
    if (target.kind === "tcp")
      return this.isRetry ? this.#decided(hostPort, target) : this.#begin(hostPort, target);
    return this.#own(tryCreateSocket(), (fd) => connectUnix(fd, target.path));
  }

  whyPending(hostPort: number): string | undefined {
    const target = this.#targets.get(hostPort);
    if (target?.kind !== "tcp") return undefined;
    return `no answer from ${target.address} port ${target.port} within ${this.options.connectTimeoutMs} ms`;
  }

  /** The descriptor if connecting it succeeds; it is closed otherwise. */
  #own(fd: number, connect: (fd: number) => number): number {
    if (fd < 0) return fd;
    const result = fd >= this.options.descriptorCeiling ? -errno.EMFILE : connect(fd);
    if (result === 0) return fd;
    closeDescriptor(fd);
    return result;
  }

  #begin(hostPort: number, address: TcpAddress): number {
    const attempts = this.#attempts.get(hostPort) ?? [];
    if (attempts.length >= MOST_ATTEMPTS) return -errno.EMFILE;
    const fd = tryCreateTcpSocket(address);
    if (fd < 0) return fd;
    // On the loopback interface the second call finds the connection made.
    let result = fd >= this.options.descriptorCeiling ? -errno.EMFILE : outcome(connectTcp(fd, address));
    if (result === -errno.EAGAIN) result = outcome(connectTcp(fd, address));
    if (result === 0) return fd;
    if (result !== -errno.EAGAIN) {
      closeDescriptor(fd);
      return result;
    }
    attempts.push({ fd, untilMs: this.options.loop.timers.now() + this.options.connectTimeoutMs });
    this.#attempts.set(hostPort, attempts);
    this.#sweepLater();
    return -errno.EAGAIN;
  }

  #decided(hostPort: number, address: TcpAddress): number {
    const attempts = this.#attempts.get(hostPort) ?? [];
    for (let index = 0; index < attempts.length; index++) {
      const { fd } = attempts[index];
      const result = outcome(connectTcp(fd, address));
      if (result === -errno.EAGAIN) continue;
      attempts.splice(index, 1);
      if (result === 0) return fd;
      closeDescriptor(fd);
      return result;
    }
    return -errno.EAGAIN;
  }

  /** Closes, in time, what was begun for guests that gave up. */
  #sweepLater(): void {
    const { loop, connectTimeoutMs } = this.options;
    this.#sweep ??= loop.setTimer(connectTimeoutMs + 1, () => {
      this.#sweep = undefined;
      const now = loop.timers.now();
      let isLeft = false;
      for (const [port, attempts] of this.#attempts) {
        while (attempts.length > 0 && attempts[0].untilMs <= now) {
          closeDescriptor(attempts[0].fd);
          attempts.shift();
        }
        if (attempts.length === 0) this.#attempts.delete(port);
        else isLeft = true;
      }
      if (isLeft) this.#sweepLater();
    });
  }

  close(): void {
    this.#sweep?.cancel();
    for (const attempts of this.#attempts.values()) for (const { fd } of attempts) closeDescriptor(fd);
    this.#attempts.clear();
  }
}

/** As the switch wants it: -EAGAIN while nothing is decided. */
function outcome(result: number): number {
  if (result === -errno.EINPROGRESS || result === -errno.EALREADY || result === -errno.EINTR)
    return -errno.EAGAIN;
  return result === -errno.EISCONN ? 0 : result;
}

/** A switch that tells the endpoints which of its questions are retries, and commands of the end of their connections. */
export class ForwardingSwitch extends VsockSwitch {
  readonly #forwards: ForwardEndpoints;
  readonly #commands: Commands;

  constructor(options: SwitchOptions, forwards: ForwardEndpoints, commands: Commands) {
    super(options);
    this.#forwards = forwards;
    this.#commands = commands;
  }

  override detach(connection: Connection, tellGuest: boolean): void {
    const { abortReason, state } = connection;
    const isCut = abortReason !== undefined || (state === "established" && !tellGuest);
    this.#commands.detached(connection, isCut);
    super.detach(connection, tellGuest);
  }

  override released(connection: Connection, undeliveredBytes: number): void {
    this.#commands.released(connection);
    super.released(connection, undeliveredBytes);
  }

  override retry(connection: Connection): void {
    this.#forwards.isRetry = true;
    super.retry(connection);
    this.#forwards.isRetry = false;
  }

  override close(): void {
    super.close();
    this.#forwards.close();
  }
}

/** The parts of a device that forwards ports: its endpoints, and a switch that works with them. */
export function forwardingParts(
  loop: EventLoop,
  { forwards, connectTimeoutMs }: VmConfig,
  commands: Commands,
): {
  endpoints(fallback: HostEndpoints | undefined, descriptorCeiling: number): HostEndpoints;
  vsockSwitch(options: SwitchOptions): VsockSwitch;
} {
  let made: ForwardEndpoints | undefined;
  return {
    endpoints(fallback = { connect: () => -errno.ENOENT }, descriptorCeiling) {
      made = new ForwardEndpoints({
        loop,
        forwards,
        fallback,
        connectTimeoutMs,
        commands,
        descriptorCeiling,
      });
      return made;
    },
    vsockSwitch: (options) =>
      made === undefined ? new VsockSwitch(options) : new ForwardingSwitch(options, made, commands),
  };
}
