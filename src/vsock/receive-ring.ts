/**
 * What the switch needs of the queue that carries packets to the guest, so that it knows nothing of virtqueues:
 * guest buffers to take, fill and complete, several at a time.
 */
import type { IovecList } from "../linux/iovec.js";
import type { PacketHeader } from "./header.js";

export interface ReceiveRing {
  /**
   * Takes guest buffers until they hold `payloadBytes` together (at least one), and returns how many there are then:
   * fewer if the guest offers fewer, 0 if it offers none now. They are numbered from 0. Those that are not completed
   * are there again for the next `take`.
   */
  take(payloadBytes: number): number;
  /** Payload bytes that buffer `slot` holds behind its header; may be 0. */
  capacity(slot: number): number;
  /** Appends the first `bytes` of the payload part of buffer `slot` to `iovecs`, or as much as has room there. */
  appendPayload(slot: number, bytes: number, iovecs: IovecList): void;
  /** Writes `header` and hands buffer 0 to the guest with `header.len` payload bytes. The next one becomes buffer 0. */
  complete(header: PacketHeader): void;
}
