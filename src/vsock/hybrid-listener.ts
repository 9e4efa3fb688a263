/**
 * The host's way in: a listening Unix socket on which programs ask for a guest port (`handshake.ts`).
 * Owns each client until its line is complete; from then on the switch's connection owns the descriptor.
 */
import { closeSync } from "node:fs";
import { EPOLLET, EPOLLHUP, EPOLLIN, EPOLLRDHUP } from "../linux/epoll.js";
import { errno, errnoName } from "../linux/errors.js";
import type { EventHandler, EventLoop } from "../linux/event-loop.js";
import type { Timer } from "../linux/timers.js";
import { acceptUnix, peekText, sendText, skipBytes } from "../linux/unix-socket.js";
import type { Logger } from "../log/logger.js";
import type { Connection, Opener } from "./connection.js";
import { LONGEST_LINE_BYTES, parseConnectLine } from "./handshake.js";
import { HANDSHAKE_TIMEOUT_MS } from "./limits.js";

/** How long accepting pauses when this process can open no more descriptors. */
const ACCEPT_PAUSE_MS = 100;
/** Clients accepted in one go, so that a storm of them does not hold up the data plane. */
const MOST_ACCEPTED_AT_ONCE = 64;

/** Where finished handshakes go; the switch. */
export interface GuestConnector {
  connectGuest(guestPort: number, fd: number, opener: Opener): void;
}

export class HybridListener implements EventHandler {
  readonly #loop: EventLoop;
  readonly #connector: GuestConnector;
  readonly #log: Logger;
  readonly #mostClients: number;
  readonly #descriptorCeiling: number;
  readonly #fd: number;
  readonly #clients = new Set<Client>();
  readonly #token: number;
  #pause: Timer | undefined;

  /** `fd` is a listening, non-blocking Unix stream socket, owned by this object from now on. */
  constructor(options: {
    loop: EventLoop;
    fd: number;
    connector: GuestConnector;
    log: Logger;
    /** Clients that may be without a complete line at a time; further ones are closed. */
    mostClients: number;
    /** Descriptors from this number on are left to others (`connectionCeiling`). */
    descriptorCeiling?: number;
  }) {
    this.#loop = options.loop;
    this.#fd = options.fd;
    this.#connector = options.connector;
    this.#log = options.log;
    this.#mostClients = options.mostClients;
    this.#descriptorCeiling = options.descriptorCeiling ?? Number.POSITIVE_INFINITY;
    this.#token = this.#loop.watch(this.#fd, EPOLLIN, this);
  }

  onEvents(): void {
    for (let accepted = 0; accepted < MOST_ACCEPTED_AT_ONCE; accepted++) {
      const fd = acceptUnix(this.#fd);
      if (fd === -errno.EAGAIN || fd === -errno.EINTR || fd === -errno.ECONNABORTED) return;
      if (fd < 0) {
        this.#pauseAccepting(-fd);
        return;
      }
      const obstacle = this.#obstacle(fd);
      if (obstacle !== undefined) {
        closeSync(fd);
        this.#fail(obstacle);
        continue;
      }
      const client = new Client(this.#loop, fd, this);
      const watched = client.start();
      if (watched >= 0) {
        this.#clients.add(client);
      } else {
        closeSync(fd);
        this.#fail(`watching a client's socket failed with ${errnoName(-watched)}`);
      }
    }
  }

  /** Why an accepted client is turned away. */
  #obstacle(fd: number): string | undefined {
    if (fd >= this.#descriptorCeiling) return "this process can open no more descriptors for connections";
    if (this.#clients.size < this.#mostClients) return undefined;
    return `${this.#clients.size} clients have not sent their line yet, which is the limit`;
  }

  /** Out of descriptors or memory: the listener stays readable, so looking away for a moment is all that helps. */
  #pauseAccepting(error: number): void {
    this.#fail(`accepting failed with ${errnoName(error)}; trying again in ${ACCEPT_PAUSE_MS} ms`);
    this.#loop.modify(this.#fd, 0, this.#token);
    this.#pause = this.#loop.setTimer(ACCEPT_PAUSE_MS, () => {
      this.#pause = undefined;
      this.#loop.modify(this.#fd, EPOLLIN, this.#token);
    });
  }

  #fail(reason: string): void {
    this.#log.log({ event: "handshake-failed", message: reason });
  }

  /** A client's line is complete, or will never be. */
  settled(client: Client, outcome: { port: number } | { reason: string }): void {
    this.#clients.delete(client);
    if ("reason" in outcome) {
      closeSync(client.fd);
      this.#fail(outcome.reason);
      return;
    }
    this.#connector.connectGuest(outcome.port, client.fd, new Greeting(outcome.port, client.fd, this.#log));
  }

  close(): void {
    this.#pause?.cancel();
    this.#loop.unwatch(this.#fd, this.#token);
    closeSync(this.#fd);
    for (const client of this.#clients) {
      client.stop();
      closeSync(client.fd);
    }
    this.#clients.clear();
  }
}

/** A client whose line is not complete yet. Reads with MSG_PEEK, so that nothing behind the line is taken. */
class Client implements EventHandler {
  #token = 0;
  #timer: Timer | undefined;

  constructor(
    private readonly loop: EventLoop,
    readonly fd: number,
    private readonly listener: HybridListener,
  ) {}

  /** Begins to watch the client: negative, `-errno`, if that fails. */
  start(): number {
    // Edge-triggered: what was peeked at stays readable.
    this.#token = this.loop.tryWatch(this.fd, EPOLLIN | EPOLLRDHUP | EPOLLET, this);
    if (this.#token < 0) return this.#token;
    this.#timer = this.loop.setTimer(HANDSHAKE_TIMEOUT_MS, () =>
      this.#settle({ reason: `no CONNECT line within ${HANDSHAKE_TIMEOUT_MS} ms` }),
    );
    return 0;
  }

  onEvents(events: number): void {
    const text = peekText(this.fd, LONGEST_LINE_BYTES);
    if (typeof text === "number") {
      if (text !== -errno.EAGAIN)
        this.#settle({ reason: `reading the CONNECT line failed with ${errnoName(-text)}` });
      return;
    }
    const line = parseConnectLine(text);
    if (line.kind === "port") {
      skipBytes(this.fd, line.lineBytes);
      this.#settle({ port: line.port });
    } else if (line.kind === "invalid") {
      this.#settle({ reason: line.reason });
    } else if ((events & (EPOLLRDHUP | EPOLLHUP)) !== 0) {
      this.#settle({ reason: `the client left after ${JSON.stringify(text)}` });
    }
  }

  #settle(outcome: { port: number } | { reason: string }): void {
    this.stop();
    this.listener.settled(this, outcome);
  }

  stop(): void {
    this.#timer?.cancel();
    this.loop.unwatch(this.fd, this.#token);
  }
}

/** Tells a client how its request ended: the OK line, or a closed socket and a log line. */
class Greeting implements Opener {
  constructor(
    private readonly guestPort: number,
    private readonly fd: number,
    private readonly log: Logger,
  ) {}

  connected(connection: Connection): void {
    const answer = `OK ${connection.hostPort}\n`;
    // The socket is new and empty, so the line fits; a client that has left is noticed by the connection itself.
    sendText(this.fd, answer);
  }

  failed(reason: string): void {
    this.log.log({ event: "host-connect-failed", message: `guest port ${this.guestPort}: ${reason}` });
  }
}
