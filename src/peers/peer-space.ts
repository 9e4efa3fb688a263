/**
 * I/O virtual addresses of a modelled device: through its IOTLB to user addresses, and through the memory table to
 * memory. Asks for the first byte that is missing and then gives up until the next try, as Linux and DPDK do, where
 * this project's own space (src/memory) asks for everything at once. Must not know who is asked, and how.
 */
import { type Access, Outcome } from "../memory/address.js";
import type { AddressSpace, TranslationFault } from "../memory/address-space.js";
import type { GuestMemory } from "../memory/guest-memory.js";
import type { SegmentList } from "../memory/segments.js";
import { hex } from "../virtio/index.js";
import type { PeerIotlb } from "./peer-iotlb.js";

export interface PeerSpaceParts {
  readonly iotlb: PeerIotlb;
  readonly memory: GuestMemory;
  /** A mapping is missing from this address on. */
  readonly ask: (iova: bigint, access: Access) => void;
  /**
   * What a mapping without the permission leads to. DPDK asks (vhost_user_iotlb_cache_find finds nothing). Linux gives
   * a ring's areas up without a word and tries again on the next kick (iotlb_access_ok), and takes a buffer for the
   * driver's mistake (translate_desc: -EPERM).
   */
  readonly withoutPermission: "asks" | "waits" | "breaks";
}

export class PeerSpace implements AddressSpace {
  readonly kind = "iova";
  readonly mostPagesPerChain = Number.POSITIVE_INFINITY;
  fault: TranslationFault | undefined;
  #gaveUp = false;

  constructor(private readonly parts: PeerSpaceParts) {}

  get generation(): number {
    return this.parts.iotlb.generation + this.parts.memory.generation;
  }

  beginChain(): void {
    this.#gaveUp = false;
  }

  translate(low: number, high: number, length: number, access: Access, out: SegmentList): Outcome {
    const { iotlb, memory, ask, withoutPermission } = this.parts;
    let at = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    let remaining = length;
    while (remaining > 0) {
      const mapping = iotlb.first(at, at + BigInt(remaining) - 1n);
      if (mapping === undefined || mapping.start > at) return this.#giveUp(() => ask(at, access));
      if ((mapping.permission & access) !== access) {
        if (withoutPermission === "breaks") return this.#denied(at);
        return this.#giveUp(() => withoutPermission === "asks" && ask(at, access));
      }
      const available = mapping.last - at + 1n;
      const bytes = available < BigInt(remaining) ? Number(available) : remaining;
      const userAddress = mapping.userAddress + (at - mapping.start);
      if (!memory.resolveUva(Number(userAddress), bytes, out)) {
        const message = `I/O virtual address ${hex(at)} is mapped to user address ${hex(userAddress)}, where no memory is`;
        this.fault = { code: "outside-memory", message };
        return Outcome.FAULT;
      }
      at += BigInt(bytes);
      remaining -= bytes;
    }
    return Outcome.OK;
  }

  #denied(iova: bigint): Outcome {
    const message = `I/O virtual address ${hex(iova)} is mapped, but not for this access`;
    this.fault = { code: "not-permitted", message };
    return Outcome.FAULT;
  }

  #giveUp(ask: () => void): Outcome {
    if (!this.#gaveUp) ask();
    this.#gaveUp = true;
    return Outcome.MISS;
  }
}
