/**
 * The host's side of a cell's traffic: a program that serves a port and sends back what it gets, and one that calls
 * the guest and expects its own bytes back. Both keep what they received, to be compared. Must not know the guest.
 */
import { closeSync } from "node:fs";
import { EPOLLIN, EPOLLOUT } from "../linux/epoll.js";
import { errno } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import { IovecList } from "../linux/iovec.js";
import { Scratch } from "../linux/scratch.js";
import { socketPair } from "../linux/unix-socket.js";
import type { HostEndpoints } from "../vsock/host-endpoints.js";

/** Shared by all programs of the thread: filled and used within one call. */
const block = new Scratch(64 * 1024);
const piece = new IovecList(1);

/** One host program's socket: sends what it is given as the socket takes it, keeps what comes. */
export class HostProgram {
  readonly #received: Buffer[] = [];
  receivedBytes = 0;
  /** The other end is gone. */
  ended = false;
  #unsent: Buffer[] = [];
  #token: number;
  #outWatched = false;

  constructor(
    private readonly loop: EventLoop,
    private readonly fd: number,
    /** Sends everything back. */
    private readonly echoes: boolean,
  ) {
    this.#token = loop.watch(fd, EPOLLIN, { onEvents: () => this.#stir() });
  }

  get received(): Buffer {
    return Buffer.concat(this.#received);
  }

  send(bytes: Buffer): void {
    this.#unsent.push(bytes);
    this.#write();
  }

  #stir(): void {
    this.#write();
    if (this.#token < 0) return;
    for (;;) {
      piece.clear();
      piece.push(block.address, block.length);
      const count = piece.readFrom(this.fd);
      if (count === -errno.EAGAIN) return;
      if (count <= 0) {
        this.ended = true;
        this.#unwatch();
        return;
      }
      const bytes = Buffer.from(block.bytes.subarray(0, count));
      this.#received.push(bytes);
      this.receivedBytes += count;
      if (this.echoes) this.send(bytes);
    }
  }

  #write(): void {
    while (this.#unsent.length > 0 && this.#token >= 0) {
      const bytes = this.#unsent[0].subarray(0, block.length);
      block.bytes.set(bytes);
      piece.clear();
      piece.push(block.address, bytes.length);
      const sent = piece.writeTo(this.fd);
      if (sent < 0 && sent !== -errno.EAGAIN) this.#unsent = [];
      if (sent < 0) break;
      if (sent === this.#unsent[0].length) this.#unsent.shift();
      else this.#unsent[0] = this.#unsent[0].subarray(sent);
    }
    this.#watchOut(this.#unsent.length > 0);
  }

  #watchOut(wanted: boolean): void {
    if (this.#token < 0 || wanted === this.#outWatched) return;
    this.#outWatched = wanted;
    this.loop.modify(this.fd, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN, this.#token);
  }

  #unwatch(): void {
    this.loop.unwatch(this.fd, this.#token);
    this.#token = -1;
  }

  close(): void {
    if (this.#token >= 0) this.#unwatch();
    closeSync(this.fd);
  }
}

/** The port that is served. */
export const HOST_PORT = 5000;

/** What is behind the host's ports: one program, which echoes. */
export class HostPrograms implements HostEndpoints {
  /** One for each connection of the guest, in order. */
  readonly served: HostProgram[] = [];
  readonly #callers: HostProgram[] = [];

  constructor(private readonly loop: EventLoop) {}

  connect(hostPort: number): number {
    if (hostPort !== HOST_PORT) return -errno.ENOENT;
    const [ours, theirs] = socketPair();
    this.served.push(new HostProgram(this.loop, theirs, true));
    return ours;
  }

  /** A program that is to be connected to the guest: itself, and the end for the device. */
  caller(): { readonly program: HostProgram; readonly fd: number } {
    const [ours, theirs] = socketPair();
    const program = new HostProgram(this.loop, theirs, false);
    this.#callers.push(program);
    return { program, fd: ours };
  }

  close(): void {
    for (const program of [...this.served, ...this.#callers]) program.close();
  }
}
