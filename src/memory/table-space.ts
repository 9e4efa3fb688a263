/**
 * The address spaces that the memory table alone decides: guest-physical and user addresses. Nothing is ever missing:
 * an address is in a region or it is wrong. Hot path: allocates only for a FAULT.
 */
import { type Access, Outcome } from "./address.js";
import type { AddressSpace, TranslationFault } from "./address-space.js";
import { hex } from "./errors.js";
import { type GuestMemory, resolvePlaced } from "./guest-memory.js";
import type { RangeTable } from "./range-table.js";
import type { SegmentList } from "./segments.js";

const TWO_TO_32 = 2 ** 32;
/** No region has addresses at or above 2^53, whose upper half begins here. */
const HIGH_OF_TWO_TO_53 = 2 ** 21;

export class TableSpace implements AddressSpace {
  readonly mostPagesPerChain = Number.POSITIVE_INFINITY;
  fault: TranslationFault | undefined;
  readonly #table: RangeTable;

  constructor(
    readonly kind: "gpa" | "uva",
    readonly memory: GuestMemory,
  ) {
    this.#table = kind === "gpa" ? memory.byGpa : memory.byUva;
  }

  get generation(): number {
    return this.memory.generation;
  }

  beginChain(): void {}

  /** The memory table has no permissions: vhost-user shares all regions readable and writable. */
  translate(low: number, high: number, length: number, _access: Access, out: SegmentList): Outcome {
    if (length === 0) return Outcome.OK;
    if (high >>> 0 < HIGH_OF_TWO_TO_53) {
      this.#table.address[0] = (high >>> 0) * TWO_TO_32 + (low >>> 0);
      if (resolvePlaced(this.#table, length, out)) return Outcome.OK;
    }
    return this.#fail(low | 0, high | 0, length);
  }

  #fail(low: number, high: number, length: number): Outcome {
    const address = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
    const name = this.kind === "gpa" ? "guest-physical" : "user";
    this.fault = {
      code: "outside-memory",
      message: `${length} bytes at ${name} address ${hex(address)} are not all inside the memory table`,
    };
    return Outcome.FAULT;
  }
}
