/**
 * The questions of a modelled device: noted when a ring misses a mapping, handed out, and pending until an UPDATE
 * covers them. Linux keeps them so in two lists (drivers/vhost/vhost.c: read_list, pending_list), DPDK in one.
 * Must not know how a question travels.
 */
import type { Access } from "../memory/address.js";

export interface PeerMiss {
  /** The ring that waits. */
  readonly ring: number;
  readonly iova: bigint;
  readonly access: Access;
}

export class MissLedger {
  readonly #unread: PeerMiss[] = [];
  #pending: PeerMiss[] = [];

  constructor(
    /**
     * Not to ask what was asked already and never answered (DPDK, vhost_user_iotlb_pending_miss). Linux asks again
     * whenever the ring is tried again.
     */
    readonly asksOnce: boolean,
  ) {}

  get hasUnread(): boolean {
    return this.#unread.length > 0;
  }

  note(miss: PeerMiss): void {
    const isSame = ({ ring, iova, access }: PeerMiss): boolean =>
      iova === miss.iova && access === miss.access && (this.asksOnce || ring === miss.ring);
    if (this.#unread.some(isSame) || (this.asksOnce && this.#pending.some(isSame))) return;
    this.#unread.push(miss);
  }

  /** The next question; it is pending from now on. */
  read(): PeerMiss | undefined {
    const miss = this.#unread.shift();
    if (miss !== undefined) this.#pending.push(miss);
    return miss;
  }

  /**
   * An UPDATE came: forgets the pending questions inside it and returns the rings that waited for them. For DPDK a
   * mapping that permits less than was asked for is no answer (vhost_user_iotlb_pending_remove).
   */
  answered(iova: bigint, size: bigint, permission: number): ReadonlySet<number> {
    const isAnswered = (miss: PeerMiss): boolean =>
      miss.iova >= iova &&
      miss.iova < iova + size &&
      (!this.asksOnce || (permission & miss.access) === miss.access);
    const rings = new Set(this.#pending.filter(isAnswered).map(({ ring }) => ring));
    this.#pending = this.#pending.filter((miss) => !isAnswered(miss));
    return rings;
  }

  clear(): void {
    this.#unread.length = 0;
    this.#pending = [];
  }
}
