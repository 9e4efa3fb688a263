/**
 * The library's device, on the main thread: promises, events and sockets over the messages of `messages.ts`. The device
 * itself runs in its own thread (`device.ts`); what it closes there and what is read here may cross, so the end of a
 * stream first looks whether a reset was announced.
 */
import { EventEmitter } from "node:events";
import { closeSync } from "node:fs";
import type { Socket } from "node:net";
import { receiveMessageOnPort } from "node:worker_threads";
import { removeSocketFile } from "../claim-socket.js";
import { VsockError } from "./errors.js";
import { GuestSocket } from "./guest-socket.js";
import { claimLibrarySockets } from "./library-sockets.js";
import { LibraryThread } from "./library-thread.js";
import type { FromDevice } from "./messages.js";
import { configOf, loggerOf, type VsockDeviceOptions } from "./options.js";
import { VsockListener } from "./vsock-listener.js";

/** The events of a `VsockDevice`, with what their listeners are called with. */
export interface VsockDeviceEvents {
  /** The guest's driver is running: connections to it can be made. */
  up: [];
  /** The driver was reset or began anew (a reboot, a reloaded module): every connection has ended. `up` follows. */
  reset: [reason: string];
  /** The VMM has left, and the guest with it: every connection has ended. */
  down: [reason: string];
  /** Nothing is served any more. `error` is why, unless `close` was called or the VMM at `fd` left. */
  close: [error?: Error];
}

/** How the sockets of a listener behave. */
export interface VsockListenOptions {
  /**
   * As `net.createServer` has it: false ends the socket's own direction when the guest has ended its own; true leaves
   * that to `socket.end()`. Default false.
   */
  readonly allowHalfOpen?: boolean;
}

/** How a connection to the guest is made. */
export interface VsockConnectOptions {
  /** As for `listen`. */
  readonly allowHalfOpen?: boolean;
  /** Gives the attempt up when it is aborted: the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

interface PendingConnect {
  readonly port: number;
  readonly allowHalfOpen: boolean;
  readonly resolve: (socket: Socket) => void;
  readonly reject: (error: Error) => void;
}

interface OpenListener {
  readonly listener: VsockListener;
  readonly allowHalfOpen: boolean;
}

/** VMADDR_PORT_ANY (include/uapi/linux/vm_sockets.h) is not a port. */
const LAST_PORT = 0xffff_fffe;

/**
 * A vsock device that this process serves to one VM. Made by `createVsockDevice`; a process may have several.
 *
 * Emits `up`, `reset` and `down` as the guest comes and goes, and `close` at the end.
 *
 * @example
 * ```js
 * import { createVsockDevice } from "bit33";
 * const device = await createVsockDevice({ socketPath: "vm3.sock", guestCid: 3 });
 * device.on("reset", (reason) => console.log(`the guest started anew: ${reason}`));
 * device.on("down", (reason) => console.log(`the guest is gone: ${reason}`));
 * await device.whenUp();
 * console.log("the guest is up"); // prints the guest is up
 * await device.close();
 * ```
 */
export class VsockDevice extends EventEmitter<VsockDeviceEvents> {
  /** The guest's address. */
  readonly guestCid: number;
  readonly #thread: LibraryThread;
  readonly #listeners = new Map<number, OpenListener>();
  /** Listeners whose port the device does not serve yet, by their request. */
  readonly #opening = new Map<number, () => void>();
  readonly #connecting = new Map<number, PendingConnect>();
  readonly #sockets = new Map<number, GuestSocket>();
  readonly #resets = new Map<number, string>();
  readonly #inbox: FromDevice[] = [];
  #isDeliveryDue = false;
  #nextRequest = 1;
  #isUp = false;
  readonly #waitingForUp: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] = [];
  #isClosing = false;
  #isClosed = false;
  readonly #ended: Promise<void>;

  /** @internal `gone` is called when the thread has ended. */
  constructor(thread: LibraryThread, guestCid: number, gone: () => void) {
    super();
    this.guestCid = guestCid;
    this.#thread = thread;
    thread.port.on("message", (message: FromDevice) => {
      this.#take(message);
      this.#deliver();
    });
    const end = (error?: Error) => {
      gone();
      this.#end(error);
    };
    this.#ended = thread.ended.then(() => end(), end);
  }

  /** True once the device serves no more. */
  get closed(): boolean {
    return this.#isClosed;
  }

  /** True while the guest's driver is running: between `up` and `reset` or `down`. */
  get isUp(): boolean {
    return this.#isUp;
  }

  /**
   * Resolves once the guest's driver is running, at once if it is already: the event `up` may have passed.
   *
   * @throws VsockError `ERR_DEVICE_CLOSED` if the device is closed before
   *
   * @example
   * ```js
   * import { createVsockDevice } from "bit33";
   * const device = await createVsockDevice({ socketPath: "vm3.sock" });
   * await device.whenUp();
   * console.log(device.isUp); // prints true
   * await device.close();
   * ```
   */
  async whenUp(): Promise<void> {
    if (this.#isUp) return;
    if (this.#isClosing || this.#isClosed) throw new VsockError("ERR_DEVICE_CLOSED", "the device is closed");
    await new Promise<void>((resolve, reject) => {
      this.#waitingForUp.push({ resolve, reject });
    });
  }

  /**
   * Accepts the guest's connections to a port of the host (CID 2). Resolves once the guest can connect.
   *
   * @param port 0 to 4294967294
   * @param onConnection called with an ordinary `net.Socket` for each connection; the same as a `connection` listener
   * @throws RangeError if that is no port; VsockError `EADDRINUSE` if it is listened on already, `ERR_DEVICE_CLOSED`
   *
   * A guest that resets its connection makes an `error` event with the code `ECONNRESET`, as a TCP peer does: handle
   * it on each socket.
   *
   * @example An HTTP server for the guest
   * ```js
   * import { createServer } from "node:http";
   * import { createVsockDevice } from "bit33";
   * const device = await createVsockDevice({ socketPath: "vm3.sock" });
   * const http = createServer((request, response) => {
   *   response.end(`you asked for ${request.url}\n`);
   *   console.log(`served ${request.url}`); // prints served /index.html
   *   response.on("close", () => device.close());
   * });
   * await device.listen(80, (socket) => http.emit("connection", socket));
   * ```
   */
  async listen(port: number, onConnection?: (socket: Socket) => void): Promise<VsockListener>;
  async listen(
    port: number,
    options: VsockListenOptions,
    onConnection?: (socket: Socket) => void,
  ): Promise<VsockListener>;
  async listen(
    port: number,
    first: VsockListenOptions | ((socket: Socket) => void) = {},
    second?: (socket: Socket) => void,
  ): Promise<VsockListener> {
    const { allowHalfOpen = false } = typeof first === "function" ? {} : first;
    const onConnection = typeof first === "function" ? first : second;
    checkPort(port);
    this.#mustBeOpen(port);
    if (this.#listeners.has(port))
      throw new VsockError("EADDRINUSE", `this device listens on port ${port} already`, port);
    const listener = new VsockListener(port, () => this.#unlisten(port));
    if (onConnection !== undefined) listener.on("connection", onConnection);
    this.#listeners.set(port, { listener, allowHalfOpen });
    const request = this.#nextRequest++;
    await new Promise<void>((resolve) => {
      this.#opening.set(request, resolve);
      this.#thread.post({ kind: "listen", request, port });
    });
    this.#mustBeOpen(port);
    return listener;
  }

  #unlisten(port: number): void {
    this.#listeners.delete(port);
    if (!this.#isClosed) this.#thread.post({ kind: "unlisten", port });
  }

  /**
   * Connects to a port of the guest. Resolves with an ordinary `net.Socket` once the guest has accepted.
   *
   * @param port 0 to 4294967294
   * @throws RangeError if that is no port; VsockError: `ECONNREFUSED` if nothing listens there, `ETIMEDOUT` if no
   * answer comes within `connectTimeoutMs` (no guest is running), and the others of `VsockErrorCode`
   *
   * @example
   * ```js
   * import { createVsockDevice } from "bit33";
   * const device = await createVsockDevice({ socketPath: "vm3.sock" });
   * await device.whenUp();
   * const socket = await device.connect(1234); // where the guest echoes
   * socket.end("hello");
   * for await (const chunk of socket) console.log(String(chunk)); // prints hello
   * await device.close();
   * ```
   */
  async connect(port: number, options: VsockConnectOptions = {}): Promise<Socket> {
    const { allowHalfOpen = false, signal } = options;
    checkPort(port);
    signal?.throwIfAborted();
    this.#mustBeOpen(port);
    const request = this.#nextRequest++;
    const give = (): void => {
      const pending = this.#connecting.get(request);
      if (pending === undefined) return;
      this.#connecting.delete(request);
      this.#thread.post({ kind: "cancel", request });
      pending.reject(signal?.reason);
    };
    signal?.addEventListener("abort", give, { once: true });
    try {
      return await new Promise<Socket>((resolve, reject) => {
        this.#connecting.set(request, { port, allowHalfOpen, resolve, reject });
        this.#thread.post({ kind: "connect", request, port });
      });
    } finally {
      signal?.removeEventListener("abort", give);
    }
  }

  /**
   * Ends everything: sockets are destroyed (their peers in the guest see a reset), listeners closed, the VMM's session
   * ended, socket files removed. Resolves when all of it is gone; more than one call does no harm.
   *
   * @example
   * ```js
   * import { createVsockDevice } from "bit33";
   * const devices = await Promise.all(
   *   [3, 4, 5].map((guestCid) => createVsockDevice({ socketPath: `vm${guestCid}.sock`, guestCid })),
   * );
   * await Promise.all(devices.map((device) => device.close()));
   * console.log(devices.every((device) => device.closed)); // prints true
   * ```
   */
  async close(): Promise<void> {
    this.#isClosing = true;
    for (const socket of this.#sockets.values()) socket.destroy();
    this.#thread.stop();
    await this.#ended;
  }

  /** Closes the device at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #mustBeOpen(port: number): void {
    if (this.#isClosing || this.#isClosed)
      throw new VsockError("ERR_DEVICE_CLOSED", "the device is closed", port);
  }

  // ---- what the device's thread says ----

  #take(message: FromDevice): void {
    this.#inbox.push(message);
    // Marked at once, since the end of its stream may be read before this message has had its turn.
    if (message.kind === "reset") this.#resets.set(message.connection, message.reason);
  }

  #takeAll(): void {
    for (
      let next = receiveMessageOnPort(this.#thread.port);
      next !== undefined;
      next = receiveMessageOnPort(this.#thread.port)
    )
      this.#take(next.message as FromDevice);
  }

  /** Asked by a socket at the end of its stream. What else was found is delivered in its own time. */
  #resetReason(connection: number): string | undefined {
    this.#takeAll();
    this.#deliverSoon();
    return this.#resets.get(connection);
  }

  #deliverSoon(): void {
    if (this.#isDeliveryDue || this.#inbox.length === 0) return;
    this.#isDeliveryDue = true;
    setImmediate(() => {
      this.#isDeliveryDue = false;
      this.#deliver();
    });
  }

  #deliver(): void {
    try {
      for (let next = this.#inbox.shift(); next !== undefined; next = this.#inbox.shift()) this.#handle(next);
    } finally {
      // A listener of the program has thrown: the rest is not lost.
      this.#deliverSoon();
    }
  }

  #handle(message: FromDevice): void {
    switch (message.kind) {
      case "listening":
        this.#opening.get(message.request)?.();
        this.#opening.delete(message.request);
        return;
      case "accepted":
        this.#accept(message.connection, message.port, message.fd);
        return;
      case "connected": {
        const pending = this.#connecting.get(message.request);
        this.#connecting.delete(message.request);
        if (pending === undefined || this.#isClosing) closeSync(message.fd);
        else pending.resolve(this.#socket(message.connection, message.fd, pending.allowHalfOpen));
        return;
      }
      case "failed": {
        const { request, code, reason } = message;
        const pending = this.#connecting.get(request);
        this.#connecting.delete(request);
        pending?.reject(
          new VsockError(code, `connecting to port ${pending.port} of the guest: ${reason}`, pending.port),
        );
        return;
      }
      case "reset":
        // Of a socket that is not read any more, there is nobody to tell.
        if (!this.#sockets.has(message.connection)) this.#resets.delete(message.connection);
        return;
      case "guest":
        // Who closes the device knows that its guest has none any more.
        if (this.#isClosing) return;
        this.#isUp = message.event === "up";
        if (this.#isUp) for (const { resolve } of this.#waitingForUp.splice(0)) resolve();
        if (message.event === "up") this.emit("up");
        else this.emit(message.event, message.reason);
        return;
    }
  }

  #accept(connection: number, port: number, fd: number): void {
    const open = this.#listeners.get(port);
    if (open === undefined || this.#isClosing) {
      closeSync(fd);
      return;
    }
    const socket = this.#socket(connection, fd, open.allowHalfOpen);
    if (!open.listener.emit("connection", socket)) socket.destroy();
  }

  #socket(connection: number, fd: number, allowHalfOpen: boolean): GuestSocket {
    const socket = new GuestSocket(fd, allowHalfOpen, () => this.#resetReason(connection));
    this.#sockets.set(connection, socket);
    socket.once("close", () => {
      this.#sockets.delete(connection);
      this.#resets.delete(connection);
    });
    return socket;
  }

  // ---- the end ----

  /** The thread is gone: what it has posted last is taken, and whoever still waits is told. */
  #end(error: Error | undefined): void {
    this.#isClosed = true;
    this.#isUp = false;
    this.#takeAll();
    this.#closeUndelivered();
    this.#thread.port.close();
    for (const resolve of this.#opening.values()) resolve();
    this.#opening.clear();
    for (const { port, reject } of this.#connecting.values())
      reject(new VsockError("ERR_DEVICE_CLOSED", "the device was closed meanwhile", port));
    this.#connecting.clear();
    for (const { reject } of this.#waitingForUp.splice(0))
      reject(new VsockError("ERR_DEVICE_CLOSED", "the device was closed before the guest was up"));
    for (const { listener } of [...this.#listeners.values()]) listener.close();
    if (error === undefined) this.emit("close");
    else this.emit("close", error);
  }

  /** Connections that nobody has seen yet are not begun any more; everything else is delivered. */
  #closeUndelivered(): void {
    for (const message of this.#inbox.splice(0)) {
      if (message.kind === "accepted" || message.kind === "connected") closeSync(message.fd);
      else this.#handle(message);
    }
  }
}

function checkPort(port: number): void {
  if (!Number.isInteger(port) || port < 0 || port > LAST_PORT)
    throw new RangeError(`${port} is not a port (0 to ${LAST_PORT})`);
}

/**
 * Starts a vsock device for one VM and resolves once the VMM can connect to its socket. The device runs in a thread of
 * its own and keeps the process alive until `close`.
 *
 * @throws ConfigError if an option is wrong (`where` is its name), StartError if a socket cannot be made
 *
 * @example Talk with the guest in both directions
 * ```js
 * import { createVsockDevice } from "bit33";
 * const device = await createVsockDevice({ socketPath: "vm3.sock", guestCid: 3 });
 *
 * // The guest connects to port 5678 of the host.
 * const heard = new Promise((resolve) => {
 *   device.listen(5678, (socket) => {
 *     socket.on("data", (chunk) => console.log(String(chunk))); // prints hello from the guest
 *     socket.on("error", (error) => console.error(error.message));
 *     socket.on("end", resolve);
 *   });
 * });
 *
 * // This process connects to port 1234 of the guest, where the guest echoes.
 * await device.whenUp();
 * const socket = await device.connect(1234);
 * socket.end("hello from the host");
 * for await (const chunk of socket) console.log(String(chunk)); // prints hello from the host
 *
 * await heard;
 * await device.close();
 * ```
 */
export async function createVsockDevice(options: VsockDeviceOptions): Promise<VsockDevice> {
  const config = configOf(options);
  const log = loggerOf(options);
  const sockets = claimLibrarySockets(config, options.fd);
  const thread = new LibraryThread(config, sockets, log);
  const device = new VsockDevice(thread, config.guestCid, () => {
    sockets.claimed.forEach(removeSocketFile);
    log.log({ event: "device-stopped", vm: config.guestCid, message: "the device has stopped" });
  });
  await thread.ready;
  return device;
}
