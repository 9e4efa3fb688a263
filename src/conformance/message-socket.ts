/**
 * One end of a seqpacket Unix socket of the host's, by descriptor, as Node has none: whole messages. Must not know
 * packets, nor how a connection came about.
 */
import { closeSync } from "node:fs";
import { errno, errnoName } from "../linux/errors.js";
import { IovecList } from "../linux/iovec.js";
import { Scratch } from "../linux/scratch.js";
import { END_OF_MESSAGES, peekMessage, receiveMessageAt, takeEmptyMessage } from "../linux/seqpacket.js";
import { SHUT_WR, shutdownSocket } from "../linux/unix-socket.js";
import type { Evidence } from "./evidence.js";
import type { Until } from "./host-programs.js";

/** The longest message that a case sends or expects. */
const MOST_BYTES = 512 * 1024;

export class MessageSocket {
  readonly #memory = new Scratch(MOST_BYTES);
  readonly #iovecs = new IovecList(1);

  constructor(
    readonly fd: number,
    readonly name: string,
    private readonly until: Until,
    private readonly evidence: Evidence,
  ) {}

  /** Sends one message, of 1 byte or more, once the socket has room for it. */
  async send(message: Uint8Array | string): Promise<void> {
    const bytes = Buffer.from(message);
    this.#memory.bytes.set(bytes);
    this.#iovecs.clear();
    this.#iovecs.push(this.#memory.address, bytes.length);
    let result = -errno.EAGAIN;
    await this.until(() => {
      if (result === -errno.EAGAIN) result = this.#iovecs.writeTo(this.fd);
      return result !== -errno.EAGAIN;
    }, `${this.name} takes a message of ${bytes.length} bytes`);
    if (result < 0) throw new Error(`${this.name} takes no message: ${errnoName(-result)}`);
    this.evidence.add("host", `${this.name}: sends a message of ${bytes.length} bytes`);
  }

  /** Whether a message, or the end, waits. */
  get isReady(): boolean {
    return peekMessage(this.fd) !== -errno.EAGAIN;
  }

  /** The next message; undefined at the end, and where the connection was reset. */
  async receive(): Promise<Buffer | undefined> {
    await this.until(() => this.isReady, `a message, or the end, arrives at ${this.name}`);
    const length = peekMessage(this.fd);
    if (length === END_OF_MESSAGES || length < 0) {
      const how = length === END_OF_MESSAGES ? "end of messages" : errnoName(-length);
      this.evidence.add("host", `${this.name}: ${how}`);
      return undefined;
    }
    if (length > MOST_BYTES) throw new Error(`${this.name}: a message of ${length} bytes arrived`);
    const taken =
      length === 0 ? takeEmptyMessage(this.fd) : receiveMessageAt(this.fd, this.#memory.address, length);
    this.evidence.add("host", `${this.name}: a message of ${length} bytes`);
    return Buffer.from(this.#memory.bytes.subarray(0, taken));
  }

  /** Ends this side's direction. */
  end(): void {
    shutdownSocket(this.fd, SHUT_WR);
  }

  close(): void {
    closeSync(this.fd);
    this.#memory.release();
  }
}
