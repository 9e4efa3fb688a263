/**
 * A virtqueue as a conformance case drives it: by the rules through `add` and `flush`, or against them through `ring`.
 * Goes by the device's signals as a guest does, so a signal that is missing shows. Must not know packets.
 */
import { closeSync } from "node:fs";
import { createEventfd, drainEventfd, signalEventfd } from "../linux/eventfd.js";
import { DESC_BYTES, placeSplitQueue, usedRingOffset } from "../virtqueue/layout.js";
import { PackedDriverQueue } from "../virtqueue/packed-driver-queue.js";
import { placePackedQueue } from "../virtqueue/packed-layout.js";
import { type BusBuffer, SplitDriverQueue } from "../virtqueue/split-driver-queue.js";
import { PAGE_BYTES } from "./io-domain.js";
import type { Block, TestMemory } from "./test-memory.js";

export interface RawQueueOptions {
  readonly index: number;
  readonly size: number;
  readonly packed: boolean;
  readonly eventIdx: boolean;
  readonly inOrder: boolean;
  /** Descriptors in each indirect table; 0: none. */
  readonly tableEntries: number;
  /** Where a split ring begins. */
  readonly firstIndex: number;
}

/** A chain that the device returned. */
export interface Returned<Owner> {
  readonly owner: Owner;
  readonly usedLength: number;
}

export class RawQueue<Owner> {
  readonly index: number;
  readonly size: number;
  readonly kickFd = createEventfd();
  readonly callFd = createEventfd();
  /** The device signals it when it gives a ring up. */
  readonly errorFd = createEventfd();
  readonly block: Block;
  readonly ring: SplitDriverQueue | PackedDriverQueue;
  /** The three areas, as offsets into `block`. */
  readonly areas: { readonly desc: number; readonly avail: number; readonly used: number };
  readonly firstIndex: number;
  /** Signals of the device. Several that come between two looks count once, as they do for an interrupt. */
  calls = 0;
  /** How often the device was kicked. */
  kicks = 0;
  /** Take what was returned without waiting for a signal. */
  polls = false;
  /** Nobody takes its signals and used buffers: the case looks by itself. */
  isLeftAlone = false;
  /** False: the device is told that there is no such eventfd, and polls, or is polled. */
  hasKickFd = true;
  hasCallFd = true;
  readonly #owners = new Map<number, Owner>();
  #isDue = false;

  constructor(memory: TestMemory, options: RawQueueOptions) {
    const { index, size, packed, eventIdx, inOrder, tableEntries, firstIndex } = options;
    this.index = index;
    this.size = size;
    this.firstIndex = firstIndex;
    this.areas = packed ? packedAreas(size) : placeSplitQueue(size, PAGE_BYTES);
    const tableBytes = size * tableEntries * DESC_BYTES;
    const ringBytes = packed
      ? 3 * PAGE_BYTES + size * DESC_BYTES
      : placeSplitQueue(size, PAGE_BYTES).totalBytes;
    this.block = memory.allocate(ringBytes);
    const tableBlock = tableBytes === 0 ? undefined : memory.allocate(tableBytes);
    const tables =
      tableBlock === undefined
        ? undefined
        : { host: tableBlock.host, bus: tableBlock.bus, entries: tableEntries };
    const { host } = this.block;
    const { desc, avail, used } = this.areas;
    const shared = { index, size, desc: host + desc, eventIdx, inOrder, tables };
    this.ring = packed
      ? new PackedDriverQueue({ ...shared, driverEvent: host + avail, deviceEvent: host + used })
      : new SplitDriverQueue({ ...shared, avail: host + avail, used: host + used, firstIndex });
    if (!packed) this.#leaveAvailEvent();
  }

  /** A driver that has been running finds where the device last asked for a kick: at the buffer to come. */
  #leaveAvailEvent(): void {
    const { view } = this.block;
    const data = new DataView(view.buffer, view.byteOffset);
    data.setUint16(this.areas.used + usedRingOffset(this.size), this.firstIndex, true);
  }

  /** The ring as a split one, every field of it. */
  get split(): SplitDriverQueue {
    if (this.ring instanceof SplitDriverQueue) return this.ring;
    throw new Error(`queue ${this.index} is packed`);
  }

  /** The bus addresses of the three areas. */
  get addresses(): { readonly desc: bigint; readonly avail: bigint; readonly used: bigint } {
    const at = (offset: number): bigint => this.block.bus + BigInt(offset);
    return { desc: at(this.areas.desc), avail: at(this.areas.avail), used: at(this.areas.used) };
  }

  /** The same as guest-physical addresses. */
  get physical(): { readonly desc: number; readonly avail: number; readonly used: number } {
    const { desc, avail, used } = this.areas;
    const { gpa } = this.block;
    return { desc: gpa + desc, avail: gpa + avail, used: gpa + used };
  }

  /** Adds a chain; false if the ring is full. The device sees it with `flush`. */
  add(
    readable: readonly BusBuffer[],
    writable: readonly BusBuffer[],
    owner: Owner,
    inTable?: boolean,
  ): boolean {
    const head = this.ring.add(readable, writable, undefined, inTable);
    if (head < 0) return false;
    this.#owners.set(head, owner);
    return true;
  }

  /** Shows the device what was added, and kicks it if it asked for that. True: it was kicked. */
  flush(): boolean {
    this.ring.publish();
    if (!this.ring.kickNeeded()) return false;
    this.kick();
    return true;
  }

  /** Kicks, wanted or not. */
  kick(): void {
    this.kicks++;
    signalEventfd(this.kickFd);
  }

  /** Takes the device's signals; true if there was one. */
  takeCall(): boolean {
    if (drainEventfd(this.callFd) <= 0) return false;
    this.calls++;
    return true;
  }

  /** Whether the device has reported the ring as broken since last asked. */
  takeError(): boolean {
    return drainEventfd(this.errorFd) > 0;
  }

  /** Everything that the device has returned, once it has signalled; then asks for the next signal. */
  collect(): Returned<Owner>[] {
    if (this.isLeftAlone) return [];
    if (this.takeCall()) this.#isDue = true;
    if (!this.#isDue && !this.polls) return [];
    const all: Returned<Owner>[] = [];
    do {
      for (let head = this.ring.pollUsed(); head >= 0; head = this.ring.pollUsed()) {
        const owner = this.#owners.get(head);
        this.#owners.delete(head);
        if (owner !== undefined) all.push({ owner, usedLength: this.ring.usedLength });
      }
    } while (this.ring.enableNotifications());
    this.#isDue = false;
    return all;
  }

  /** A driver that starts asks for signals from the first chain on. */
  begin(): void {
    this.ring.enableNotifications();
  }

  /** Looks once at the ring without having been signalled: after a stop, when signals may have been lost. */
  look(): void {
    this.#isDue = true;
  }

  close(): void {
    for (const fd of [this.kickFd, this.callFd, this.errorFd]) closeSync(fd);
  }
}

/** As SET_VRING_ADDR calls them: the driver's events in place of the avail ring, the device's in place of the used one. */
function packedAreas(size: number) {
  const { desc, driverEvent, deviceEvent } = placePackedQueue(size, PAGE_BYTES);
  return { desc, avail: driverEvent, used: deviceEvent };
}
