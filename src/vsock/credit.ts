/**
 * Credit: who may send how much (virtio 1.4, 5.10.6.3 "Virtqueue Flow Control" and "Buffer Space Management").
 * All counters are 32-bit and wrap; only payload bytes count. One object a direction and connection.
 */

/**
 * What we may send. `peer_free = peer_buf_alloc - (tx_cnt - peer_fwd_cnt)`.
 *
 * A Linux guest keeps each packet in a buffer of its own and, in some versions, counts that buffer's overhead
 * against the socket's memory: many small packets end in RST and ENOBUFS although the bytes were within credit. So
 * each packet that the guest has not consumed yet is charged `PACKET_OVERHEAD_BYTES` here as well. That number is
 * our choice: sizeof(struct sk_buff) and skb_shared_info as x86-64 kernels round them (576), and some room.
 */
export const PACKET_OVERHEAD_BYTES = 640;

/**
 * Packets that the peer has not consumed are counted in slices of the stream, each of this share of its buffer: when
 * it has consumed up to the end of a slice, that slice's packets are gone. So their number is overstated by those of
 * the oldest slice at most (the last free slice takes whatever follows, and may become longer than others), never
 * understated, and no list of packets is kept.
 */
const SLICES = 16;
const SLICE_MASK = SLICES - 1;

export class SendCredit {
  /** Payload bytes sent (tx_cnt). */
  sent = 0;
  #peerBufAlloc = 0;
  #peerFwdCnt = 0;
  /** Packets in all slices. */
  #packets = 0;
  /** By slice, those in use from `#oldest` on: where it ends, as a value of `sent`; then its packets. Made on first use. */
  #slices: Uint32Array | undefined;
  #oldest = 0;
  #used = 0;
  /** Bytes in the newest slice. */
  #newestBytes = 0;

  /** The peer's receive buffer, as it told last. */
  get peerBufAlloc(): number {
    return this.#peerBufAlloc;
  }

  /** Takes the peer's figures, which every packet of a flow carries. True if anything changed. */
  update(bufAlloc: number, fwdCnt: number): boolean {
    if (bufAlloc === this.#peerBufAlloc && fwdCnt === this.#peerFwdCnt) return false;
    this.#peerBufAlloc = bufAlloc;
    this.#peerFwdCnt = fwdCnt;
    const slices = this.#slices;
    while (slices !== undefined && this.#used > 0 && ((slices[this.#oldest] - fwdCnt) | 0) <= 0) {
      this.#packets -= slices[SLICES + this.#oldest];
      this.#oldest = (this.#oldest + 1) & SLICE_MASK;
      this.#used--;
    }
    return true;
  }

  /** Payload bytes sent and not consumed, as the peer tells it. A peer that lies makes this huge, which stops it only. */
  get unconsumed(): number {
    return (this.sent - this.#peerFwdCnt) >>> 0;
  }

  /** Payload bytes that may be sent now, in packets of at most `packetBytes`. */
  available(packetBytes: number): number {
    const outstanding = this.unconsumed;
    const free = this.#peerBufAlloc - outstanding;
    if (free <= 0) return 0;
    const room = free - (this.#packets + 1) * PACKET_OVERHEAD_BYTES;
    if (room > 0) {
      return Math.min(free, Math.ceil((room * packetBytes) / (packetBytes + PACKET_OVERHEAD_BYTES)));
    }
    // A buffer smaller than the overhead: one packet at a time, so that it goes on.
    return outstanding === 0 ? Math.min(free, packetBytes) : 0;
  }

  /** Notes one packet of `bytes` payload as sent. */
  spend(bytes: number): void {
    this.#slices ??= new Uint32Array(2 * SLICES);
    const slices = this.#slices;
    this.sent = (this.sent + bytes) >>> 0;
    this.#packets++;
    // The last slice that there is takes whatever follows.
    const isNew =
      this.#used === 0 || (this.#newestBytes >= this.#peerBufAlloc / SLICES && this.#used < SLICES);
    if (isNew) {
      this.#used++;
      this.#newestBytes = 0;
    }
    const newest = (this.#oldest + this.#used - 1) & SLICE_MASK;
    this.#newestBytes += bytes;
    slices[newest] = this.sent;
    slices[SLICES + newest] = isNew ? 1 : slices[SLICES + newest] + 1;
  }
}

/**
 * What the peer may send us, and what we tell it. The window begins small and grows (`connection.ts`); it never shrinks, as
 * a peer may have relied on what it was told.
 */
export class ReceiveCredit {
  /** Payload bytes received. */
  #received = 0;
  /** Payload bytes that left for good: they entered the host socket (fwd_cnt). */
  forwarded = 0;
  #lastTold = 0;
  /** `bufAlloc` as the peer knows it; the packet that opens the connection tells the first. */
  #allocTold: number;
  #bufAlloc: number;

  constructor(bufAlloc: number) {
    this.#bufAlloc = bufAlloc;
    this.#allocTold = bufAlloc;
  }

  /** The bytes that we can hold for this connection. */
  get bufAlloc(): number {
    return this.#bufAlloc;
  }

  /** Only before the peer was told anything: it may rely on what it hears. */
  shrink(bufAlloc: number): void {
    this.#bufAlloc = bufAlloc;
    this.#allocTold = bufAlloc;
  }

  grow(bufAlloc: number): void {
    this.#bufAlloc = Math.max(this.#bufAlloc, bufAlloc);
  }

  /** Takes `bytes` from the peer; false if it had no credit for them. */
  receive(bytes: number): boolean {
    const held = (this.#received - this.forwarded) >>> 0;
    if (held + bytes > this.#bufAlloc) return false;
    this.#received = (this.#received + bytes) >>> 0;
    return true;
  }

  forward(bytes: number): void {
    this.forwarded = (this.forwarded + bytes) >>> 0;
  }

  /** Frees everything that is held: the host side is gone, and nobody will ever take it. */
  forgive(): void {
    this.forwarded = this.#received;
  }

  /** Notes that a packet carries the current `forwarded` and `bufAlloc`. */
  told(): void {
    this.#lastTold = this.forwarded;
    this.#allocTold = this.#bufAlloc;
  }

  /**
   * True if the peer should be told of free space by a packet of its own: there is something to tell, and what it
   * believes to be free has fallen below half of what there is. (Our choice: one update per half window costs little and never lets
   * a sender that still has work run dry.) `peerBufAlloc` is the peer's own buffer: Linux 7.2 sends no more than that
   * ahead even to a receiver that has more room (virtio_transport_has_space), and would wait for ever on a window
   * that only we know.
   */
  shouldTell(peerBufAlloc: number): boolean {
    if (this.forwarded === this.#lastTold && this.#bufAlloc === this.#allocTold) return false;
    const believed = Math.min(this.#allocTold, peerBufAlloc) - ((this.#received - this.#lastTold) >>> 0);
    return believed < Math.min(this.#bufAlloc, peerBufAlloc) / 2;
  }
}
