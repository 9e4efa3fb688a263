/**
 * An address space that somebody watches: every range that is resolved is reported, with the guest-physical memory
 * that it leads to, before the device gets it, and may be denied. For whoever has to know what a device touched; a
 * served device has none of it.
 */
import { type Access, Outcome } from "./address.js";
import type { AddressSpace, TranslationFault } from "./address-space.js";
import type { GuestMemory } from "./guest-memory.js";
import { SegmentList } from "./segments.js";

/** A part of guest memory. */
export interface GpaRange {
  readonly gpa: number;
  readonly bytes: number;
}

/** One range that a device is about to touch. */
export interface WatchedAccess {
  readonly use: "ring" | "buffer";
  /** Which kind of address was resolved, and the address. */
  readonly space: AddressSpace["kind"];
  readonly address: bigint;
  readonly bytes: number;
  readonly access: Access;
  /** Where it leads. */
  readonly leadsTo: readonly GpaRange[];
}

export interface AccessWatcher {
  /** Undefined lets the device have the range; a reason denies it, as a hypervisor does with private memory. */
  accessed(access: WatchedAccess): string | undefined;
  /** The device found nothing there: an address that is not mapped (yet), or one that leads nowhere. */
  withheld(access: Omit<WatchedAccess, "leadsTo">, outcome: Outcome): void;
}

export class WatchedSpace implements AddressSpace {
  readonly kind: AddressSpace["kind"];
  readonly #found = new SegmentList();
  #denied: TranslationFault | undefined;

  constructor(
    private readonly inner: AddressSpace,
    private readonly use: WatchedAccess["use"],
    private readonly memory: GuestMemory,
    private readonly watcher: AccessWatcher,
  ) {
    this.kind = inner.kind;
  }

  get generation(): number {
    return this.inner.generation;
  }

  get fault(): TranslationFault | undefined {
    return this.#denied ?? this.inner.fault;
  }

  get mostPagesPerChain(): number {
    return this.inner.mostPagesPerChain;
  }

  beginChain(): void {
    this.inner.beginChain();
  }

  translate(low: number, high: number, length: number, access: Access, out: SegmentList): Outcome {
    this.#denied = undefined;
    const found = this.#found;
    found.clear();
    const outcome = this.inner.translate(low, high, length, access, found);
    const address = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    const asked = { use: this.use, space: this.kind, address, bytes: length, access };
    if (outcome !== Outcome.OK) {
      this.watcher.withheld(asked, outcome);
      return outcome;
    }
    const denial = this.watcher.accessed({ ...asked, leadsTo: this.#guestRanges() });
    if (denial !== undefined) {
      this.#denied = { code: "not-permitted", message: denial };
      return Outcome.FAULT;
    }
    for (let i = 0; i < found.count; i++) out.append(found.address[i], found.length[i]);
    return outcome;
  }

  #guestRanges(): GpaRange[] {
    const found = this.#found;
    return Array.from({ length: found.count }, (_, i) => ({
      gpa: this.#gpaOf(found.address[i]),
      bytes: found.length[i],
    }));
  }

  #gpaOf(host: number): number {
    const region = this.memory.regions.find(
      (candidate) => host >= candidate.host && host < candidate.host + candidate.size,
    );
    if (region === undefined) throw new Error("a resolved address lies in no region");
    return region.gpa + (host - region.host);
  }
}
