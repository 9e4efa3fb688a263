/**
 * Payload of consecutive packets of one connection, gathered to leave guest memory in one writev.
 * Hot path: allocates nothing per packet. Next: `Connection.writeBatch`.
 */
import { IovecList } from "../linux/iovec.js";
import type { SegmentList } from "../memory/segments.js";
import type { Connection } from "./connection.js";
import { gather } from "./gather.js";
import { HEADER_BYTES } from "./header.js";

export class PayloadBatch {
  readonly #iovecs = new IovecList();
  #connection: Connection | undefined;

  /** Adds a packet's payload, which stays in guest memory until `flush`. */
  add(connection: Connection, packet: SegmentList, payloadBytes: number): void {
    if (this.#connection !== connection) this.flush();
    this.#connection = connection;
    let done = 0;
    for (;;) {
      done += gather(packet, HEADER_BYTES + done, payloadBytes - done, this.#iovecs);
      if (done === payloadBytes) return;
      this.flush();
      if (connection.hostGone) return;
      this.#connection = connection;
    }
  }

  /** Moves what was gathered to its host socket. After it, no segment that was added is needed. */
  flush(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#connection = undefined;
    connection.writeBatch(this.#iovecs);
    this.#iovecs.clear();
  }

  /** The switch is closed. */
  release(): void {
    this.#iovecs.release();
  }

  /** Flushes if payload of `connection` waits here. */
  flushOf(connection: Connection): void {
    if (this.#connection === connection) this.flush();
  }
}
