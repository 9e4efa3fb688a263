/**
 * Why a queue broke: the other side of the ring did something it must not. A value, never thrown; it stays on the
 * queue until the queue is set up anew. The device tells the front-end (VRING_ERR) and logs `message`.
 */

export type QueueFailureCode =
  /** A ring address is not aligned as 2.7 asks. */
  | "ring-misaligned"
  /** A ring lies outside of memory, or may not be accessed. */
  | "ring-unreachable"
  /** The mapping of a ring tears its elements apart. */
  | "ring-torn"
  /** `avail.idx` (or `used.idx`) moved by more than the queue can hold; packed: likewise, or a base beyond the ring. */
  | "index-jump"
  /** A head in the avail ring (or an id in the used ring) is no descriptor of this queue. */
  | "head-out-of-range"
  /** Two chains with one buffer id (packed). */
  | "id-in-flight"
  /** The used ring names a head that is not in flight. Driver side only. */
  | "head-not-in-flight"
  /** `next` points outside of its table. */
  | "next-out-of-range"
  /** A chain has more descriptors than its table: it loops. */
  | "chain-loops"
  /** A chain holds more than 2^32 bytes. */
  | "chain-too-large"
  /** A readable descriptor follows a writable one. */
  | "readable-after-writable"
  | "indirect-not-negotiated"
  /** INDIRECT and NEXT in the same descriptor. */
  | "indirect-with-next"
  /** INDIRECT inside an indirect table. */
  | "indirect-nested"
  /** The length of an indirect table is 0, no multiple of 16, or beyond the limit. */
  | "indirect-length"
  /** A buffer or an indirect table lies outside of memory, or may not be accessed so. */
  | "buffer-unreachable"
  /** A chain's content is not what its device's specification allows: the device says so, not the queue. */
  | "content-malformed";

export interface QueueFailure {
  readonly code: QueueFailureCode;
  /** One line: the queue, the descriptor, what is wrong and which rule says so. */
  readonly message: string;
}
