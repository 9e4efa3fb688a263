/**
 * Copies between a connected socket and two streams, such as standard input and output, until both directions are over.
 * Each direction ends by itself (half-close). Blocks the thread in epoll_wait: for a program that has nothing else to do.
 * The streams may be pipes, terminals, files or sockets; their own blocking mode, which others may share, stays as it is.
 */
import { fstatSync } from "node:fs";
import { giveUp } from "./duplicate.js";
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, Epoll } from "./epoll.js";
import { errno, errnoName, orErrno } from "./errors.js";
import { libcCalls } from "./libc.js";
import { Scratch } from "./scratch.js";
import { SHUT_WR, shutdownSocket } from "./unix-socket.js";

const BUFFER_BYTES = 64 * 1024;
/**
 * A pipe that is writable has room for one page at least (pipe(7), PIPE_BUF is 4096), so that writing no more never
 * blocks on a descriptor whose blocking mode is not ours to change.
 */
const BYTES_THAT_DO_NOT_BLOCK = 4096;

export type RelayOutcome =
  /** Both directions have ended, or the socket's peer has closed it and everything that it sent is written. */
  { readonly kind: "ended" } | { readonly kind: "failed"; readonly reason: string };

/** A stream with its place in epoll. */
class Watched {
  #added = false;
  #events = 0;
  /** It cannot be watched, since it is always ready: a file, /dev/null. */
  isAlwaysReady = false;
  /** What epoll has reported of it last. */
  reported = 0;

  constructor(
    private readonly epoll: Epoll,
    readonly fd: number,
    private readonly token: number,
  ) {}

  /** Watches for `events`; for none, not even a hang-up is reported. */
  want(events: number): void {
    this.reported = 0;
    if (this.isAlwaysReady || events === this.#events) return;
    if (events === 0) this.epoll.remove(this.fd);
    else if (this.#added) this.epoll.modify(this.fd, events, this.token);
    else {
      const result = this.epoll.tryAdd(this.fd, events, this.token);
      // epoll_ctl(2): EPERM, the file does not support epoll.
      if (result < 0) {
        this.isAlwaysReady = true;
        return;
      }
    }
    this.#added = events !== 0;
    this.#events = events;
  }
}

/** What one direction has read and not yet written. */
class Buffer {
  readonly #scratch = new Scratch(BUFFER_BYTES);
  #start = 0;
  #end = 0;
  /** Its source is at an end; what is left is still to be written. */
  sourceEnded = false;
  /** Nothing more is written: everything was, or nobody takes it. */
  isOver = false;

  get isEmpty(): boolean {
    return this.#start === this.#end;
  }

  get wantsRead(): boolean {
    return this.isEmpty && !this.sourceEnded && !this.isOver;
  }

  get wantsWrite(): boolean {
    return !this.isEmpty && !this.isOver;
  }

  /** One read: 0 if that went well, or `-errno`. */
  fill(fd: number): number {
    const length = orErrno(libcCalls.read(fd, this.#scratch.address, BUFFER_BYTES));
    if (length === -errno.EAGAIN || length === -errno.EINTR) return 0;
    if (length < 0) return length;
    this.#start = 0;
    this.#end = length;
    if (length === 0) this.sourceEnded = true;
    return 0;
  }

  /** One write of at most `most` bytes: 0 if that went well, or `-errno`. */
  drain(fd: number, most: number): number {
    const length = Math.min(this.#end - this.#start, most);
    const written = orErrno(libcCalls.write(fd, this.#scratch.address + this.#start, length));
    if (written === -errno.EAGAIN || written === -errno.EINTR) return 0;
    if (written < 0) return written;
    this.#start += written;
    return 0;
  }

  release(): void {
    this.#scratch.release();
  }
}

/**
 * Copies `input` to `socket` and `socket` to `output`. `socket` is non-blocking. At the end of `input` the socket's
 * sending direction is shut; at the end of the socket `output` is given up. Closes neither `input` nor `socket`.
 */
export function relay(socket: number, input: number, output: number): RelayOutcome {
  const epoll = new Epoll();
  const toSocket = new Buffer();
  const toOutput = new Buffer();
  const source = new Watched(epoll, input, 0);
  const sink = new Watched(epoll, output, 1);
  const peer = new Watched(epoll, socket, 2);
  const all = [source, sink, peer];
  const isOutputSocket = fstatSync(output).isSocket();
  let peerLeft = false;
  let outputClosed = false;
  const failed = (reason: string): RelayOutcome => ({ kind: "failed", reason });
  try {
    for (;;) {
      if (toSocket.sourceEnded && toSocket.isEmpty && !toSocket.isOver) {
        toSocket.isOver = true;
        shutdownSocket(socket, SHUT_WR);
      }
      if (toOutput.sourceEnded && toOutput.isEmpty && !toOutput.isOver) {
        toOutput.isOver = true;
        outputClosed = true;
        sink.want(0);
        if (isOutputSocket) shutdownSocket(output, SHUT_WR);
        giveUp(output);
      }
      if (toOutput.isOver && (toSocket.isOver || peerLeft)) return { kind: "ended" };

      source.want(toSocket.wantsRead && !peerLeft ? EPOLLIN : 0);
      if (!outputClosed) sink.want(toOutput.wantsWrite ? EPOLLOUT : 0);
      const forPeer = (toOutput.wantsRead ? EPOLLIN : 0) | (toSocket.wantsWrite && !peerLeft ? EPOLLOUT : 0);
      // With nothing to read or write, its hang-up is still news; once known, it would be reported for ever.
      peer.want(peerLeft ? 0 : forPeer === 0 ? EPOLLERR : forPeer);
      const isReady =
        (source.isAlwaysReady && toSocket.wantsRead) ||
        (sink.isAlwaysReady && toOutput.wantsWrite) ||
        (peerLeft && toOutput.wantsRead);
      const count = epoll.wait(isReady ? 0 : -1);
      for (let index = 0; index < count; index++) all[epoll.token(index)].reported = epoll.events(index);
      if ((peer.reported & (EPOLLHUP | EPOLLERR)) !== 0) peerLeft = true;

      if (toOutput.wantsRead && (peer.reported !== 0 || peerLeft)) {
        const result = toOutput.fill(socket);
        if (result < 0) return failed(`the connection was cut: reading it failed with ${errnoName(-result)}`);
      }
      if (toSocket.wantsRead && !peerLeft && (source.reported !== 0 || source.isAlwaysReady)) {
        const result = toSocket.fill(input);
        if (result < 0) return failed(`reading standard input failed with ${errnoName(-result)}`);
      }
      if (toSocket.wantsWrite && !peerLeft && peer.reported !== 0) {
        // The peer takes no more. What it sends may go on.
        if (toSocket.drain(socket, BUFFER_BYTES) < 0) toSocket.isOver = true;
      }
      if (toOutput.wantsWrite && (sink.reported !== 0 || sink.isAlwaysReady)) {
        const result = toOutput.drain(output, sink.isAlwaysReady ? BUFFER_BYTES : BYTES_THAT_DO_NOT_BLOCK);
        if (result < 0) return failed(`writing standard output failed with ${errnoName(-result)}`);
      }
    }
  } finally {
    epoll.close();
    toSocket.release();
    toOutput.release();
  }
}
