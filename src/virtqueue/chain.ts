/**
 * One descriptor chain, resolved to host memory. The owner keeps a few and hands them to `pop` again and again;
 * the segments are valid until control returns to the event loop, no longer.
 */
import { SegmentList } from "../memory/segments.js";

export class Chain {
  /** What `push` gives back: the head's descriptor index (split), the buffer id (packed). */
  head = 0;
  /** How many descriptors the chain has, those of an indirect table included. */
  descriptorCount = 0;
  /** What the guest wrote for the device. */
  readonly readable: SegmentList;
  /** Where the device may write. */
  readonly writable: SegmentList;

  constructor(initialSegments = 32) {
    this.readable = new SegmentList(initialSegments);
    this.writable = new SegmentList(initialSegments);
  }
}
