/**
 * What could not be sent yet: the rest of a message that a socket took only in part, and what follows it. A reader
 * of the other end never sees half a reply, and nobody here waits for it.
 * Knows bytes and a descriptor, no messages. Bounded by its users: they stop making bytes while it is not empty.
 */

import { errno } from "../linux/errors.js";
import { sendMessage } from "../linux/message-socket.js";

export class Outbox {
  #waiting: Uint8Array[] = [];
  /** The socket has taken a part of what waits first. */
  #isFirstBegun = false;

  constructor(readonly fd: number) {}

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /**
   * Sends `bytes` after whatever waits, or keeps a copy of the rest. 0, or `-errno` if the socket is broken. Several
   * messages may come in one piece if they are `messageBytes` long each.
   */
  send(bytes: Uint8Array, messageBytes = bytes.length): number {
    const sent = this.isEmpty ? this.#sendSome(bytes) : 0;
    if (sent < 0) return sent;
    if (this.isEmpty) this.#isFirstBegun = sent % messageBytes !== 0;
    for (let at = sent; at < bytes.length; ) {
      const end = at - (at % messageBytes) + messageBytes;
      this.#waiting.push(bytes.slice(at, end));
      at = end;
    }
    return 0;
  }

  /** Forgets every message of which no byte went out. True if there were any. */
  dropUnsent(): boolean {
    return this.#waiting.splice(this.#isFirstBegun ? 1 : 0).length > 0;
  }

  /** Sends what waits, as far as it goes: 0, or `-errno` if the socket is broken. Call it on EPOLLOUT. */
  flush(): number {
    while (this.#waiting.length > 0) {
      const bytes = this.#waiting[0];
      const sent = this.#sendSome(bytes);
      if (sent < 0) return sent;
      if (sent < bytes.length) {
        this.#isFirstBegun ||= sent > 0;
        this.#waiting[0] = bytes.subarray(sent);
        return 0;
      }
      this.#isFirstBegun = false;
      this.#waiting.shift();
    }
    return 0;
  }

  /** How many bytes the socket took, 0 if it is full, `-errno` if it is broken. */
  #sendSome(bytes: Uint8Array): number {
    const sent = sendMessage(this.fd, bytes);
    return sent === -errno.EAGAIN ? 0 : sent;
  }
}
