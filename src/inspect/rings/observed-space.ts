/**
 * I/O virtual addresses as a front-end's own UPDATEs and INVALIDATEs map them, for somebody who looks on: nothing is
 * asked for, and permissions, which are the device's, do not matter.
 */
import { type Access, Outcome } from "../../memory/address.js";
import type { AddressSpace, TranslationFault } from "../../memory/address-space.js";
import type { Iotlb } from "../../memory/iotlb.js";
import type { SegmentList } from "../../memory/segments.js";

const PAGE_BYTES = 4096;
const TWO_TO_20 = 2 ** 20;
const TWO_TO_32 = 2 ** 32;

export class ObservedIovaSpace implements AddressSpace {
  readonly kind = "iova";
  readonly mostPagesPerChain = Number.POSITIVE_INFINITY;
  readonly fault: TranslationFault | undefined = undefined;

  constructor(readonly iotlb: Iotlb) {}

  get generation(): number {
    return this.iotlb.generation;
  }

  beginChain(): void {}

  translate(firstLow: number, firstHigh: number, length: number, _access: Access, out: SegmentList): Outcome {
    const { table } = this.iotlb;
    let low = firstLow >>> 0;
    let high = firstHigh >>> 0;
    let position = table.find(low | 0, high | 0);
    for (let remaining = length; remaining > 0; ) {
      if (position < 0 || high >= TWO_TO_32) return Outcome.MISS;
      const page = high * TWO_TO_20 + (low >>> 12);
      const begin = table.offsetIn(position, page, low % PAGE_BYTES);
      const taken = Math.min(table.bytes[position] - begin, remaining);
      out.append(table.host[position] + begin, taken);
      remaining -= taken;
      const next = low + taken;
      low = next % TWO_TO_32;
      high += Math.floor(next / TWO_TO_32);
      if (remaining > 0) position = table.findFrom(position, low | 0, high | 0);
    }
    return Outcome.OK;
  }
}
