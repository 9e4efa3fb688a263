/**
 * The host's way in: a listening Unix socket on which programs ask for a guest port (`handshake.ts`).
 * Owns each client until its line is complete; from then on the switch's connection owns the descriptor.
 */
import { closeDescriptor } from "../linux/close.js";
import { EPOLLHUP, EPOLLIN, EPOLLRDHUP } from "../linux/epoll.js";
import { errnoName } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import type { Timer, TimerHandler } from "../linux/timers.js";
import { peekText, sendText } from "../linux/unix-socket.js";
import type { Logger } from "../log/logger.js";
import { Acceptor } from "./acceptor.js";
import type { Connection, Opener } from "./connection.js";
import { type HandshakeLine, LONGEST_LINE_BYTES } from "./handshake.js";
import { readLine, readLineMessage } from "./handshake-reader.js";
import { SocketType } from "./header.js";
import { WATCHED } from "./host-socket.js";

/** Where finished handshakes go; the switch. */
export interface GuestConnector {
  /** `type`: the `SocketType` of `fd`; default STREAM. */
  connectGuest(guestPort: number, fd: number, opener: Opener, type?: number): void;
  /** The same for a descriptor that the loop watches for `WATCHED` with `token`, and has told `events` of. */
  connectWatched(
    guestPort: number,
    fd: number,
    opener: Opener,
    token: number,
    events: number,
    type?: number,
  ): void;
}

export class HybridListener implements Opener {
  readonly #loop: EventLoop;
  readonly #connector: GuestConnector;
  readonly #log: Logger;
  readonly #mostClients: number;
  readonly handshakeTimeoutMs: number;
  readonly #descriptorCeiling: number;
  readonly #type: number;
  readonly #clients = new Set<Client>();
  readonly #acceptor: Acceptor;

  /** `fd` is a listening, non-blocking Unix socket, owned by this object from now on. */
  constructor(options: {
    loop: EventLoop;
    fd: number;
    connector: GuestConnector;
    log: Logger;
    /** Clients that may be without a complete line at a time; further ones are closed. */
    mostClients: number;
    /** How long a client may take to send its line. */
    handshakeTimeoutMs: number;
    /** What the clients' sockets are: `SocketType`. Default STREAM; with SEQPACKET the line is a message. */
    type?: number;
    /** Descriptors from this number on are left to others (`connectionCeiling`). */
    descriptorCeiling?: number;
  }) {
    this.#loop = options.loop;
    this.#type = options.type ?? SocketType.STREAM;
    this.#connector = options.connector;
    this.#log = options.log;
    this.#mostClients = options.mostClients;
    this.handshakeTimeoutMs = options.handshakeTimeoutMs;
    this.#descriptorCeiling = options.descriptorCeiling ?? Number.POSITIVE_INFINITY;
    const { loop, fd } = options;
    const descriptorCeiling = this.#descriptorCeiling;
    const accepted = (client: number) => this.#serve(client);
    const failed = (reason: string) => this.#fail(reason);
    this.#acceptor = new Acceptor({ loop, fd, descriptorCeiling, accepted, failed });
  }

  /** A client that has just come. Most send their line straight away: then there is nothing to watch and wait for. */
  #serve(fd: number): void {
    if (fd >= this.#descriptorCeiling) {
      this.#turnAway(fd, "this process can open no more descriptors for connections");
      return;
    }
    const line = this.readLine(fd);
    if (line.kind === "port") this.#connector.connectGuest(line.port, fd, this, this.#type);
    else if (line.kind === "invalid") this.#turnAway(fd, line.reason);
    else if (this.#clients.size < this.#mostClients) this.#await(fd);
    else this.#turnAway(fd, `${this.#clients.size} clients have not sent their line yet, which is the limit`);
  }

  #turnAway(fd: number, reason: string): void {
    closeDescriptor(fd);
    this.#fail(reason);
  }

  #await(fd: number): void {
    const client = new Client(this.#loop, fd, this);
    const watched = client.start();
    if (watched >= 0) this.#clients.add(client);
    else this.#turnAway(fd, `watching a client's socket failed with ${errnoName(-watched)}`);
  }

  #fail(reason: string): void {
    this.#log.log({ event: "handshake-failed", message: reason });
  }

  /** What a client has sent of its line; a line that is complete is taken, and nothing behind it. */
  readLine(fd: number): HandshakeLine {
    return this.#type === SocketType.STREAM ? readLine(fd) : readLineMessage(fd);
  }

  /** A client's line is complete: `events` are what is still true of those reported. */
  complete(client: Client, port: number, events: number): void {
    this.#clients.delete(client);
    this.#connector.connectWatched(port, client.fd, this, client.token, events, this.#type);
  }

  /** A client's line will never be complete; its descriptor is closed. */
  failedClient(client: Client, reason: string): void {
    this.#clients.delete(client);
    this.#fail(reason);
  }

  connected({ fd, hostPort }: Connection): void {
    // The socket is new and empty, so the line fits; a client that has left is noticed by the connection itself.
    sendText(fd, `OK ${hostPort}\n`);
  }

  failed(reason: string, guestPort: number): void {
    this.#log.log({ event: "host-connect-failed", message: `guest port ${guestPort}: ${reason}` });
  }

  close(): void {
    this.#acceptor.close();
    for (const client of this.#clients) client.leave();
    this.#clients.clear();
  }
}

/** A client whose line is not complete yet. */
class Client implements EventHandler, TimerHandler {
  token = 0;
  readonly #timer: Timer;

  constructor(
    private readonly loop: EventLoop,
    readonly fd: number,
    private readonly listener: HybridListener,
  ) {
    this.#timer = loop.timerFor(this);
  }

  /** Begins to watch the client: negative, `-errno`, if that fails. */
  start(): number {
    this.token = this.loop.tryWatch(this.fd, WATCHED, this);
    if (this.token >= 0) this.#timer.start(this.listener.handshakeTimeoutMs);
    return this.token;
  }

  onEvents(events: number): void {
    const line = this.listener.readLine(this.fd);
    if (line.kind === "port") {
      this.#timer.cancel();
      // Unless something follows the line, nothing is left of what EPOLLIN has told.
      const isFollowed = line.receivedBytes > line.lineBytes || line.receivedBytes === LONGEST_LINE_BYTES;
      this.listener.complete(this, line.port, isFollowed ? events : events & ~EPOLLIN);
    } else if (line.kind === "invalid") {
      this.#fail(line.reason);
    } else if ((events & (EPOLLRDHUP | EPOLLHUP)) !== 0) {
      this.#fail(`the client left after ${JSON.stringify(peekText(this.fd, LONGEST_LINE_BYTES))}`);
    }
  }

  onTimer(): void {
    this.#fail(`no CONNECT line within ${this.listener.handshakeTimeoutMs} ms`);
  }

  #fail(reason: string): void {
    this.leave();
    this.listener.failedClient(this, reason);
  }

  leave(): void {
    this.#timer.cancel();
    this.loop.unwatchAndClose(this.fd, this.token);
  }
}
