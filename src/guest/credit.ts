/**
 * Credit as the Linux guest keeps it (net/vmw_vsock/virtio_transport_common.c), which is not quite what the device
 * does: the send window is capped by the own buffer size, and updates follow rules of their own. All counters wrap
 * at 32 bits; only payload counts (virtio 1.4, 5.10.6.3).
 */
import { LARGEST_PAYLOAD_BYTES } from "./packet-slots.js";

/** VIRTIO_VSOCK_DEFAULT_BUF_SIZE. */
export const DEFAULT_BUFFER_BYTES = 256 * 1024;

export class GuestCredit {
  /** Payload bytes sent, and the peer's latest figures. */
  sent = 0;
  peerBufAlloc = 0;
  peerFwdCnt = 0;
  /** Payload bytes received that the application has not taken. */
  unread = 0;
  /** Payload bytes that it has taken (fwd_cnt). */
  forwarded = 0;
  #lastTold = 0;

  constructor(readonly bufAlloc: number = DEFAULT_BUFFER_BYTES) {}

  /** How much may be sent now. */
  get sendable(): number {
    const inFlight = (this.sent - this.peerFwdCnt) >>> 0;
    return Math.max(0, Math.min(this.peerBufAlloc, this.bufAlloc) - inFlight);
  }

  spend(bytes: number): void {
    this.sent = (this.sent + bytes) >>> 0;
  }

  /** Takes a packet's payload; false if the peer had no credit for it. */
  receive(bytes: number): boolean {
    if (this.unread + bytes > this.bufAlloc) return false;
    this.unread += bytes;
    return true;
  }

  /** The application has taken a whole packet: true if the peer should be told by a CREDIT_UPDATE. */
  consume(bytes: number): boolean {
    this.unread -= bytes;
    this.forwarded = (this.forwarded + bytes) >>> 0;
    const untold = (this.forwarded - this.#lastTold) >>> 0;
    // SO_RCVLOWAT is 1, so "less unread than the reader waits for" means that nothing is.
    return untold > 0 && (this.bufAlloc - untold < LARGEST_PAYLOAD_BYTES || this.unread < 1);
  }

  /** A packet that is being sent carries `forwarded`. */
  told(): void {
    this.#lastTold = this.forwarded;
  }
}
