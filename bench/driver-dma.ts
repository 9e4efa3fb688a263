/**
 * What stands between a measuring driver's buffers and the addresses that its descriptors carry: nothing here, where
 * the device is told guest-physical addresses; the other ways are in translation-dma.ts. Must not know rings.
 */
import { GuestRam } from "../src/guest/guest-ram.js";
import { PAGE_BYTES } from "../src/linux/mapping.js";
import type { Access } from "../src/memory/address.js";
import { builtinVmm } from "../src/profiles/builtin.js";
import { FrontEnd } from "../src/vmm/front-end.js";
import { machineFor } from "../src/vmm/virtual-machine.js";
import { Arena } from "./guest-arena.js";

/** Equal buffers, and what the device calls each. */
export class Buffers {
  /** The address of each, as its two halves. */
  readonly low: Uint32Array;
  readonly high: Uint32Array;
  /** Where each begins, as an index in the arena's words. */
  readonly word: Uint32Array;
  readonly #offset: number;

  constructor(
    readonly arena: Arena,
    readonly count: number,
    readonly strideBytes: number,
    readonly access: Access,
  ) {
    this.#offset = arena.allocate(count * strideBytes);
    this.low = new Uint32Array(count);
    this.high = new Uint32Array(count);
    this.word = Uint32Array.from({ length: count }, (_, index) => arena.wordOf(this.offsetOf(index)));
  }

  /** How many bytes of an arena such buffers take. */
  static bytesFor(count: number, strideBytes: number): number {
    return Math.ceil((count * strideBytes) / PAGE_BYTES) * PAGE_BYTES;
  }

  offsetOf(index: number): number {
    return this.#offset + index * this.strideBytes;
  }
}

export interface DriverDma {
  readonly arena: Arena;
  readonly frontEnd: FrontEnd;
  /** Feature bits that the driver acknowledges because of it. */
  readonly features: bigint;
  /** A buffer is mapped each time before the device gets it, and unmapped when it comes back. */
  readonly mapsEachTime: boolean;
  /** What the device calls memory that both use all the time. */
  busOf(offset: number): bigint;
  /** Sets the buffer's address. */
  map(buffers: Buffers, index: number, bytes: number): void;
  /** The address means nothing any more, at the latest after `settle`. */
  unmap(buffers: Buffers, index: number, bytes: number): void;
  settle(): void;
  /** The device was started, and knows of no buffer yet. */
  started(): void;
  /** Readable when the device has asked something, which `serve` answers; -1 if it never does. */
  readonly questionFd: number;
  serve(): void;
}

/** How much memory a driver needs, of which `wholeBytes` must not be scattered. */
export interface Need {
  readonly bytes: number;
  readonly wholeBytes: number;
}

/** Translation off: the device is told guest-physical addresses. */
export class DirectDma implements DriverDma {
  readonly arena: Arena;
  readonly frontEnd: FrontEnd;
  readonly features = 0n;
  readonly mapsEachTime = false;
  readonly questionFd = -1;

  constructor(socketPath: string, { bytes, wholeBytes }: Need) {
    const ram = new GuestRam();
    this.arena = new Arena(ram, bytes, wholeBytes, 1);
    this.frontEnd = new FrontEnd({
      socket: socketPath,
      profile: builtinVmm("qemu-7.2"),
      machine: machineFor("direct"),
      ram,
      viommu: undefined,
    });
  }

  busOf(offset: number): bigint {
    return BigInt(this.arena.gpaOf(offset));
  }

  map(buffers: Buffers, index: number): void {
    setAddress(buffers, index, this.arena.gpaOf(buffers.offsetOf(index)));
  }

  unmap(): void {}
  settle(): void {}
  started(): void {}
  serve(): void {}
}

export function setAddress(buffers: Buffers, index: number, address: number): void {
  buffers.low[index] = address % 2 ** 32;
  buffers.high[index] = Math.floor(address / 2 ** 32);
}
