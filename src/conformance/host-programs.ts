/**
 * The host's programs beside the back-end: connections to its hybrid socket and listeners that the guest reaches, in
 * Firecracker's scheme. Everything that a case opens is closed behind it. Must not know packets.
 */
import { once } from "node:events";
import { closeSync, existsSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { errnoName } from "../linux/errors.js";
import { acceptUnix, connectUnix, createSocket, listenUnix, SOCK_SEQPACKET } from "../linux/unix-socket.js";
import type { Evidence } from "./evidence.js";
import { MessageSocket } from "./message-socket.js";

/** Waits until something is so, and fails the case if it never is. */
export type Until = (condition: () => boolean, what: string, withinMs?: number) => Promise<void>;

/** One end of a connection of the host's, with everything that it has been sent. */
export class HostSocket {
  /** The other side has ended its direction. */
  hasEnded = false;
  /** Nothing is left of it, for whatever reason. */
  isClosed = false;
  /** How many bytes came altogether. */
  receivedBytes = 0;
  #chunks: Buffer[] = [];
  #waitingBytes = 0;

  constructor(
    /** Node's, for what this class has no name for. */
    readonly socket: Socket,
    readonly name: string,
    private readonly until: Until,
    evidence: Evidence,
  ) {
    socket.on("data", (chunk: Buffer) => {
      this.receivedBytes += chunk.length;
      this.#waitingBytes += chunk.length;
      this.#chunks.push(chunk);
    });
    socket.on("end", () => {
      this.hasEnded = true;
      evidence.add("host", `${name}: end of stream after ${this.receivedBytes} bytes`);
    });
    socket.on("error", (error) => evidence.add("host", `${name}: ${error.message}`));
    socket.on("close", () => {
      this.isClosed = true;
      evidence.add("host", `${name}: closed`);
    });
  }

  /** Takes no byte more from the socket until `resume`: a slow reader. */
  pause(): void {
    this.socket.pause();
  }

  resume(): void {
    this.socket.resume();
  }

  write(bytes: Uint8Array | string): void {
    this.socket.write(bytes);
  }

  /** Ends this side's direction. */
  end(): void {
    this.socket.end();
  }

  /** Closes both directions at once. */
  destroy(): void {
    this.socket.destroy();
  }

  /** The next bytes, exactly so many. */
  async read(bytes: number): Promise<Buffer> {
    await this.until(
      () => this.#waitingBytes >= bytes || this.hasEnded || this.isClosed,
      `${bytes} bytes arrive at ${this.name}`,
    );
    return this.#take(Math.min(bytes, this.#waitingBytes));
  }

  /** Everything up to the other side's end. */
  async readToEnd(): Promise<Buffer> {
    await this.until(() => this.hasEnded || this.isClosed, `the stream ends at ${this.name}`);
    return this.#take(this.#waitingBytes);
  }

  /** Up to and with the next newline, or what there is at the end. */
  async readLine(): Promise<string> {
    let line = "";
    while (!line.endsWith("\n")) {
      const next = await this.read(1);
      if (next.length === 0) break;
      line += next.toString("latin1");
    }
    return line;
  }

  /** What has arrived and was not read. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  #take(bytes: number): Buffer {
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(bytes)];
    this.#waitingBytes = all.length - bytes;
    return all.subarray(0, bytes);
  }
}

/** A host program that the guest connects to. */
export class HostListener {
  readonly #waiting: HostSocket[] = [];

  constructor(
    readonly server: Server,
    readonly port: number,
    private readonly until: Until,
    wrap: (socket: Socket) => HostSocket,
  ) {
    server.on("connection", (socket) => this.#waiting.push(wrap(socket)));
  }

  /** How many connections wait to be accepted. */
  get waiting(): number {
    return this.#waiting.length;
  }

  async accept(): Promise<HostSocket> {
    await this.until(
      () => this.#waiting.length > 0,
      `a connection arrives at the host's listener on port ${this.port}`,
    );
    const socket = this.#waiting.shift();
    if (socket === undefined) throw new Error("until holds");
    return socket;
  }
}

/** A host program with a seqpacket socket that the guest connects to. */
export interface MessageListener {
  accept(): Promise<MessageSocket>;
  /** Whether a connection waits to be accepted; if so, the next `accept` takes it. */
  readonly hasConnection: boolean;
}

export class HostPrograms {
  readonly #sockets = new Set<Socket>();
  readonly #messageSockets: MessageSocket[] = [];
  readonly #messageListeners = new Map<number, string>();
  readonly #servers = new Map<Server, string>();

  constructor(
    private readonly udsPath: string | undefined,
    private readonly until: Until,
    private readonly evidence: Evidence,
  ) {}

  /** Connects to the hybrid socket and says nothing yet. */
  async open(): Promise<HostSocket> {
    const socket = createConnection({ path: this.#path, allowHalfOpen: true });
    const wrapped = this.#wrap(socket, "host connection");
    let isConnected = false;
    socket.once("connect", () => {
      isConnected = true;
    });
    await this.until(() => isConnected || wrapped.isClosed, `${this.#path} takes a connection`);
    if (!isConnected) throw new Error(`${this.#path} takes no connection`);
    return wrapped;
  }

  /** The handshake of the hybrid socket, up to the request: what follows is `OK` once the guest has answered. */
  async request(port: number): Promise<HostSocket> {
    const socket = await this.open();
    socket.write(`CONNECT ${port}\n`);
    this.evidence.add("host", `CONNECT ${port}`);
    return socket;
  }

  /** Listens for the guest's connections to `port` of the host. */
  async listen(port: number): Promise<HostListener> {
    const path = `${this.#path}_${port}`;
    const server = createServer({ allowHalfOpen: true });
    const listener = new HostListener(server, port, this.until, (socket) =>
      this.#wrap(socket, `host port ${port}`),
    );
    server.listen(path);
    await once(server, "listening");
    this.#servers.set(server, path);
    return listener;
  }

  /** As `request`, on the socket for messages beside the hybrid one: the next message is `OK` once the guest has answered. */
  async requestMessages(port: number): Promise<MessageSocket> {
    const fd = createSocket(SOCK_SEQPACKET);
    const socket = this.#wrapMessages(fd, "host connection of messages");
    const result = connectUnix(fd, `${this.#path}_seqpacket`);
    if (result < 0) throw new Error(`${this.#path}_seqpacket takes no connection: ${errnoName(-result)}`);
    await socket.send(`CONNECT ${port}`);
    this.evidence.add("host", `CONNECT ${port}, for messages`);
    return socket;
  }

  /** Whether the back-end has a socket for messages beside its hybrid one: a proposal that not everybody follows. */
  get hasMessages(): boolean {
    return existsSync(`${this.#path}_seqpacket`);
  }

  /** Listens with a seqpacket socket for the guest's connections to `port` of the host. */
  listenForMessages(port: number): MessageListener {
    const path = `${this.#path}_${port}`;
    const listener = listenUnix(path, { type: SOCK_SEQPACKET });
    this.#messageListeners.set(listener, path);
    let waiting: number | undefined;
    const hasConnection = (): boolean => {
      if (waiting === undefined) {
        const accepted = acceptUnix(listener);
        if (accepted >= 0) waiting = accepted;
      }
      return waiting !== undefined;
    };
    return {
      accept: async () => {
        await this.until(
          hasConnection,
          `a connection arrives at the host's seqpacket listener on port ${port}`,
        );
        const fd = waiting;
        waiting = undefined;
        if (fd === undefined) throw new Error("until holds");
        return this.#wrapMessages(fd, `host port ${port}`);
      },
      get hasConnection() {
        return hasConnection();
      },
    };
  }

  #wrapMessages(fd: number, name: string): MessageSocket {
    const socket = new MessageSocket(fd, name, this.until, this.evidence);
    this.#messageSockets.push(socket);
    return socket;
  }

  #wrap(socket: Socket, name: string): HostSocket {
    this.#sockets.add(socket);
    return new HostSocket(socket, name, this.until, this.evidence);
  }

  get #path(): string {
    if (this.udsPath === undefined) throw new Error("the case needs the hybrid socket and does not say so");
    return this.udsPath;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    for (const socket of this.#messageSockets) socket.close();
    for (const [listener, path] of this.#messageListeners) {
      closeSync(listener);
      rmSync(path, { force: true });
    }
    for (const [server, path] of this.#servers) {
      server.close();
      rmSync(path, { force: true });
    }
  }
}
