/**
 * The transfer of a device's state through a descriptor, in either direction (vhost-user, Migrating back-end state):
 * bytes that nobody but the device understands. Never blocks: a pipe that is full or empty is watched. Must not know
 * messages, nor what is in the bytes.
 */
import { closeSync, readSync, writeSync } from "node:fs";
import { EPOLLIN, EPOLLOUT } from "../linux/epoll.js";
import type { EventLoop } from "../linux/event-loop.js";
import { setNonBlocking } from "../linux/unix-socket.js";

/** The most state that is read: some 20 times what all connections that a device may have take. Our choice. */
export const MOST_STATE_BYTES = 16 * 2 ** 20;
const CHUNK_BYTES = 64 * 1024;

/** How a transfer stands. `failed` says why. */
export type TransferState =
  | { readonly state: "running" | "done" }
  | { readonly state: "failed"; readonly why: string };

export class StateTransfer {
  #status: TransferState = { state: "running" };
  #token = -1;
  /** What is still to be written, or what was read so far. */
  #bytes: Uint8Array;
  readonly #pieces: Uint8Array[] = [];
  #readBytes = 0;

  /** Takes ownership of `fd`. Saves `bytes`; without them loads, and gives what it has read to `loaded` at the end. */
  constructor(
    private readonly loop: EventLoop,
    private readonly fd: number,
    bytes: Uint8Array | undefined,
    /** Returns why the state cannot be used. */
    private readonly loaded: (bytes: Uint8Array) => string | undefined,
  ) {
    this.#bytes = bytes ?? new Uint8Array(0);
    const step = bytes === undefined ? () => this.#read() : () => this.#write();
    setNonBlocking(fd);
    this.#advance = step;
    step();
    if (this.#status.state !== "running") return;
    const events = bytes === undefined ? EPOLLIN : EPOLLOUT;
    this.#token = loop.tryWatch(fd, events, { onEvents: step });
    if (this.#token < 0) this.#end({ state: "failed", why: "its descriptor cannot be watched" });
  }

  readonly #advance: () => void;

  /** CHECK_DEVICE_STATE: what there is to read is read before the answer. */
  check(): TransferState {
    if (this.#status.state === "running") this.#advance();
    return this.#status;
  }

  #write(): void {
    try {
      while (this.#bytes.length > 0) this.#bytes = this.#bytes.subarray(writeSync(this.fd, this.#bytes));
      this.#end({ state: "done" });
    } catch (error) {
      this.#failUnlessLater(error);
    }
  }

  #read(): void {
    try {
      for (;;) {
        const chunk = new Uint8Array(CHUNK_BYTES);
        const count = readSync(this.fd, chunk);
        if (count === 0) break;
        this.#readBytes += count;
        // Read to its end all the same: whoever writes it must not wait for ever.
        if (this.#readBytes <= MOST_STATE_BYTES) this.#pieces.push(chunk.subarray(0, count));
      }
    } catch (error) {
      this.#failUnlessLater(error);
      return;
    }
    const why =
      this.#readBytes > MOST_STATE_BYTES
        ? `it has more than ${MOST_STATE_BYTES} bytes`
        : this.loaded(Buffer.concat(this.#pieces));
    this.#end(why === undefined ? { state: "done" } : { state: "failed", why });
  }

  #failUnlessLater(error: unknown): void {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "EAGAIN") this.#end({ state: "failed", why: message });
  }

  #end(status: TransferState): void {
    if (this.#status.state !== "running") return;
    this.#status = status;
    if (this.#token >= 0) this.loop.unwatch(this.fd, this.#token);
    // "the back-end … must close its end" : that is how the front-end learns that all has come.
    closeSync(this.fd);
  }

  /** Gives up what is not done. */
  close(): void {
    this.#end({ state: "failed", why: "the session ended" });
  }
}
