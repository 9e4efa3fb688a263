/**
 * The library's half in the device's thread: the ports that it listens on are host endpoints, each connection one end of
 * a socket pair whose other end goes to the main thread. Learns from the switch how each connection ended, so that a
 * reset does not look like an orderly end there. Must not know what the main thread makes of a descriptor.
 */
import { type MessagePort, receiveMessageOnPort } from "node:worker_threads";
import { closeDescriptor } from "../../linux/close.js";
import { errno, errnoName, SystemCallError } from "../../linux/errors.js";
import { socketPair } from "../../linux/unix-socket.js";
import { type Connection, Due, type Opener } from "../../vsock/connection.js";
import { SocketType } from "../../vsock/header.js";
import type { HostEndpoints } from "../../vsock/host-endpoints.js";
import type { SwitchOptions, VsockSwitch } from "../../vsock/switch.js";
import type { DeviceParts } from "../vm-device.js";
import type { VsockBackend } from "../vsock-backend.js";
import { GuestState } from "./guest-state.js";
import type { ConnectFailure, FromDevice, ToDevice } from "./messages.js";
import { type ConnectionWatcher, WatchedBackend, WatchedSwitch } from "./watched-device.js";

export class LibrarySide implements DeviceParts, HostEndpoints, ConnectionWatcher {
  readonly #guest: GuestState;
  readonly #port: MessagePort;
  #descriptorCeiling = Number.POSITIVE_INFINITY;
  /** What serves the ports on which the library does not listen. */
  #fallback: HostEndpoints | undefined;
  #switch: WatchedSwitch | undefined;
  readonly #listening = new Set<number>();
  /** The connection behind each of the descriptors that the switch has from here. */
  readonly #connections = new Map<number, number>();
  /** Connections to the guest that are being set up, by the number of their request. */
  readonly #requests = new Map<number, LibraryOpener>();
  /** The same by the number of their connection. */
  readonly #openers = new Map<number, LibraryOpener>();
  #nextConnection = 1;
  #resetting = false;

  constructor(port: MessagePort) {
    this.#port = port;
    this.#guest = new GuestState((event, reason) => this.#post({ kind: "guest", event, reason }));
  }

  // ---- what the device is made of ----

  endpoints(fallback: HostEndpoints | undefined, descriptorCeiling: number): HostEndpoints {
    this.#fallback = fallback;
    this.#descriptorCeiling = descriptorCeiling;
    return this;
  }

  vsockSwitch(options: SwitchOptions): VsockSwitch {
    this.#switch = new WatchedSwitch(options, this);
    return this.#switch;
  }

  backend(...parts: ConstructorParameters<typeof VsockBackend>): VsockBackend {
    return new WatchedBackend(this.#guest, ...parts);
  }

  #post(message: FromDevice): void {
    this.#port.postMessage(message);
  }

  // ---- the guest connects ----

  connect(hostPort: number, type: number, guestPort: number): number {
    if (!this.#listening.has(hostPort))
      return this.#fallback?.connect(hostPort, type, guestPort) ?? -errno.ENOENT;
    // A net.Socket knows no message boundaries.
    if (type !== SocketType.STREAM) return -errno.EPROTOTYPE;
    const pair = this.#pair();
    if (typeof pair === "number") return pair;
    const connection = this.#enter(pair.ours);
    this.#post({ kind: "accepted", connection, port: hostPort, fd: pair.theirs });
    return pair.ours;
  }

  /** Two connected sockets, or `-errno`. */
  #pair(): { readonly ours: number; readonly theirs: number } | number {
    let pair: [number, number];
    try {
      pair = socketPair();
    } catch (error) {
      if (error instanceof SystemCallError) return -error.errno;
      throw error;
    }
    const [ours, theirs] = pair;
    if (ours < this.#descriptorCeiling && theirs < this.#descriptorCeiling) return { ours, theirs };
    closeDescriptor(ours);
    closeDescriptor(theirs);
    return -errno.EMFILE;
  }

  #enter(fd: number): number {
    const connection = this.#nextConnection++;
    this.#connections.set(fd, connection);
    return connection;
  }

  // ---- what the main thread asks for ----

  /** Takes every message that waits. */
  receive(): void {
    for (
      let next = receiveMessageOnPort(this.#port);
      next !== undefined;
      next = receiveMessageOnPort(this.#port)
    )
      this.#obey(next.message as ToDevice);
  }

  #obey(message: ToDevice): void {
    switch (message.kind) {
      case "listen":
        this.#listening.add(message.port);
        this.#post({ kind: "listening", request: message.request });
        return;
      case "unlisten":
        this.#listening.delete(message.port);
        return;
      case "connect":
        this.#connectGuest(message.request, message.port);
        return;
      case "cancel":
        this.#requests.get(message.request)?.cancel();
        return;
    }
  }

  #connectGuest(request: number, port: number): void {
    const pair = this.#pair();
    if (typeof pair === "number") {
      const reason = `a socket pair could not be made (${errnoName(-pair)})`;
      this.#post({ kind: "failed", request, code: "EMFILE", reason });
      return;
    }
    const connection = this.#enter(pair.ours);
    const isOver = () => {
      this.#requests.delete(request);
      this.#openers.delete(connection);
    };
    const opener = new LibraryOpener(pair.theirs, {
      connected: (fd) => {
        isOver();
        this.#post({ kind: "connected", request, connection, fd });
      },
      failed: (code, reason) => {
        isOver();
        // A request that the switch refuses at once never becomes a connection of its.
        if (this.#connections.get(pair.ours) === connection) this.#connections.delete(pair.ours);
        this.#post({ kind: "failed", request, code, reason });
      },
    });
    this.#requests.set(request, opener);
    this.#openers.set(connection, opener);
    this.#switch?.connectGuest(port, pair.ours, opener);
  }

  // ---- what the switch says ----

  /** The guest's side of a connection is over; called before its descriptor is closed. */
  ended(connection: Connection, tellGuest: boolean): void {
    const id = this.#connections.get(connection.fd);
    if (id === undefined) return;
    this.#connections.delete(connection.fd);
    const opener = this.#openers.get(id);
    if (opener !== undefined) {
      if (this.#resetting) opener.code = "ECONNRESET";
      // The guest spoke last, and has seen the request: it refused it.
      else if (!tellGuest && (connection.due & Due.REQUEST) === 0) opener.code = "ECONNREFUSED";
      else opener.code = "ETIMEDOUT";
      return;
    }
    const isCut = connection.state === "established" && !tellGuest;
    const reason = connection.abortReason ?? (isCut ? "the guest reset the connection" : undefined);
    if (reason !== undefined) this.#post({ kind: "reset", connection: id, reason });
  }

  /** The switch ends every connection in `end`. */
  whileResetting(reason: string, end: () => void): void {
    this.#resetting = true;
    end();
    this.#resetting = false;
    this.#guest.reset(reason);
  }

  close(): void {
    this.#port.close();
  }
}

/** Waits for the outcome of one connection to the guest, with the end that the main thread is to have. */
class LibraryOpener implements Opener {
  /** What to call a failure; that of a request which is refused before it begins. */
  code: ConnectFailure = "EAGAIN";
  #isOver = false;

  constructor(
    private readonly theirs: number,
    private readonly outcome: {
      readonly connected: (fd: number) => void;
      readonly failed: (code: ConnectFailure, reason: string) => void;
    },
  ) {}

  connected(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.outcome.connected(this.theirs);
  }

  failed(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    closeDescriptor(this.theirs);
    this.outcome.failed(this.code, reason);
  }

  /** The switch notices that the other end is closed, and tells the guest if it has to. */
  cancel(): void {
    this.failed("it was cancelled");
  }
}
