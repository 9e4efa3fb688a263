/**
 * The front-end's mappings as its IOTLB messages made them, and the MISSes that wait for one. Knows no rings and judges
 * nothing. A range is kept by its first and last byte, so that one may end at the last address there is.
 */
import { IOTLB_TYPE, type IotlbMessage } from "../../vhost/wire/index.js";

const LAST_ADDRESS = 2n ** 64n - 1n;
/** More are not kept: what the oldest said is forgotten, as Linux does at the same number (vhost max_iotlb_entries). */
export const MOST_MAPPINGS = 2048;
const MOST_PENDING = 1024;

export interface Mapping {
  readonly first: bigint;
  readonly last: bigint;
  readonly userAddress: bigint;
  readonly perm: number;
}

export interface PendingMiss {
  readonly iova: bigint;
  readonly perm: number;
  readonly atNs: bigint;
}

export class IotlbModel {
  #mappings: Mapping[] = [];
  #pending: PendingMiss[] = [];
  updates = 0;
  invalidations = 0;
  misses = 0;
  accessFailures = 0;
  /** MISSes for which an UPDATE came. */
  answered = 0;
  /** How long they waited, all together. */
  answeredNs = 0n;
  slowestNs = 0n;

  get mappings(): readonly Mapping[] {
    return this.#mappings;
  }

  get pending(): readonly PendingMiss[] {
    return this.#pending;
  }

  get messages(): number {
    return this.updates + this.invalidations;
  }

  take({ type, iova, size, userAddress, perm }: IotlbMessage, atNs: bigint): void {
    switch (type) {
      case IOTLB_TYPE.UPDATE:
        this.updates++;
        if (size > 0n) this.#map({ first: iova, last: lastOf(iova, size), userAddress, perm }, atNs);
        return;
      case IOTLB_TYPE.INVALIDATE:
        this.invalidations++;
        this.#unmap(iova, lastOf(iova, size));
        return;
      case IOTLB_TYPE.MISS:
        this.misses++;
        this.#pending.push({ iova, perm, atNs });
        if (this.#pending.length > MOST_PENDING) this.#pending.shift();
        return;
      case IOTLB_TYPE.ACCESS_FAIL:
        this.accessFailures++;
    }
  }

  /** Where an address leads, or undefined. */
  find(iova: bigint): Mapping | undefined {
    return this.#mappings.findLast(({ first, last }) => iova >= first && iova <= last);
  }

  /** Nobody waits for these any more: the rings stand still, or somebody was told. */
  forgetPending(isForgotten: (miss: PendingMiss) => boolean = () => true): void {
    this.#pending = this.#pending.filter((miss) => !isForgotten(miss));
  }

  clear(): void {
    this.#mappings = [];
    this.#pending = [];
  }

  #map(mapping: Mapping, atNs: bigint): void {
    const same = this.#mappings.findIndex(
      ({ first, last }) => first === mapping.first && last === mapping.last,
    );
    if (same >= 0) this.#mappings.splice(same, 1);
    this.#mappings.push(mapping);
    if (this.#mappings.length > MOST_MAPPINGS) this.#mappings.shift();
    if (this.#pending.length === 0) return;
    this.forgetPending((miss) => {
      if (miss.iova < mapping.first || miss.iova > mapping.last || (miss.perm & ~mapping.perm) !== 0)
        return false;
      const waitedNs = atNs - miss.atNs;
      this.answered++;
      this.answeredNs += waitedNs;
      if (waitedNs > this.slowestNs) this.slowestNs = waitedNs;
      return true;
    });
  }

  /** What overlaps goes as a whole, as in Linux (vhost_iotlb_del_range). */
  #unmap(from: bigint, to: bigint): void {
    this.#mappings = this.#mappings.filter(({ first, last }) => last < from || first > to);
  }
}

/** A range that would wrap ends at the last address; size 0 from 0 on is the whole space, as one of 2^64 bytes is written. */
function lastOf(first: bigint, size: bigint): bigint {
  if (size === 0n) return first === 0n ? LAST_ADDRESS : first;
  const last = first + size - 1n;
  return last > LAST_ADDRESS ? LAST_ADDRESS : last;
}
