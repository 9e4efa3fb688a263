/**
 * A virtqueue of the guest together with its DMA: every buffer of a chain is mapped before the device sees it and
 * unmapped when it comes back, and so is the indirect table of a chain that has one, as Linux's virtio_ring does.
 * Must not know what the buffers carry.
 */
import { drainEventfd, signalEventfd } from "../linux/eventfd.js";
import { roundUp } from "../linux/mapping.js";
import { Access } from "../memory/address.js";
import type { DriverQueue } from "../virtqueue/driver-queue.js";
import { DESC_BYTES, DescFlag, placeSplitQueue } from "../virtqueue/layout.js";
import { PackedDriverQueue } from "../virtqueue/packed-driver-queue.js";
import { placePackedQueue } from "../virtqueue/packed-layout.js";
import { SplitDriverQueue } from "../virtqueue/split-driver-queue.js";
import { type CoherentMemory, DmaBuffer, type DmaMapper } from "./dma.js";
import type { GuestRam, RamBlock } from "./guest-ram.js";

export interface MappedQueueOptions {
  readonly index: number;
  /** A power of 2, unless it is packed. */
  readonly size: number;
  /** VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER and so on were negotiated. */
  readonly packed: boolean;
  readonly inOrder: boolean;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  readonly ram: GuestRam;
  readonly dma: DmaMapper;
  /** The most buffers of one chain. */
  readonly mostBuffers: number;
  /** Eventfd that tells the device of new chains. */
  readonly kickFd: number;
  /** Eventfd that the device signals. */
  readonly callFd: number;
}

/** Linux aligns the three areas to a cache line (SMP_CACHE_BYTES). */
const AREA_ALIGNMENT = 64;

/** As SET_VRING_ADDR calls them: the driver's events in place of the avail ring, the device's in place of the used one. */
function packedAreas(size: number) {
  const { desc, driverEvent, deviceEvent, totalBytes } = placePackedQueue(size, AREA_ALIGNMENT);
  return { desc, avail: driverEvent, used: deviceEvent, totalBytes };
}

/** How much of a chain the device may write. */
function writableBytes(buffers: readonly DmaBuffer[]): number {
  let total = 0;
  for (const { access, bytes } of buffers) if (access !== Access.READ) total += bytes;
  return total;
}

/** An indirect table in the guest's memory. */
interface Table {
  readonly buffer: DmaBuffer;
  readonly data: DataView;
}

export class MappedQueue<Owner extends object> {
  readonly index: number;
  readonly size: number;
  readonly kickFd: number;
  readonly callFd: number;
  readonly memory: CoherentMemory;
  readonly ring: DriverQueue;
  /** The bus addresses of the three areas, which the driver tells the device. */
  readonly addresses: { readonly desc: bigint; readonly avail: bigint; readonly used: bigint };
  /** How often the device was kicked, and how often it called. */
  kicks = 0;
  calls = 0;

  readonly #split: SplitDriverQueue | undefined;
  readonly #packed: PackedDriverQueue | undefined;
  readonly #ram: GuestRam;
  readonly #dma: DmaMapper;
  readonly #tables: Table[] = [];
  readonly #tableBlock: RamBlock | undefined;
  /** What is in flight, by head. */
  readonly #owners: (Owner | undefined)[];
  readonly #buffers: (readonly DmaBuffer[] | undefined)[];
  readonly #tableOf: (Table | undefined)[];

  constructor(options: MappedQueueOptions) {
    const { index, size, ram, dma } = options;
    this.index = index;
    this.size = size;
    this.kickFd = options.kickFd;
    this.callFd = options.callFd;
    this.#ram = ram;
    this.#dma = dma;
    const areas = options.packed ? packedAreas(size) : placeSplitQueue(size, AREA_ALIGNMENT);
    this.memory = dma.allocateCoherent(areas.totalBytes);
    const { host, bus } = this.memory;
    this.addresses = {
      desc: bus + BigInt(areas.desc),
      avail: bus + BigInt(areas.avail),
      used: bus + BigInt(areas.used),
    };
    const { eventIdx, inOrder } = options;
    const [desc, avail, used] = [host + areas.desc, host + areas.avail, host + areas.used];
    const shared = { index, size, desc, eventIdx, inOrder };
    this.#split = options.packed ? undefined : new SplitDriverQueue({ ...shared, avail, used });
    this.#packed = options.packed
      ? new PackedDriverQueue({ ...shared, driverEvent: avail, deviceEvent: used })
      : undefined;
    const ring = this.#split ?? this.#packed;
    if (ring === undefined) throw new Error("a queue is split or packed");
    this.ring = ring;
    this.#owners = new Array(size).fill(undefined);
    this.#buffers = new Array(size).fill(undefined);
    this.#tableOf = new Array(size).fill(undefined);
    if (options.indirect) this.#tableBlock = this.#makeTables(options.mostBuffers);
  }

  #makeTables(mostBuffers: number): RamBlock {
    const tableBytes = roundUp(mostBuffers * DESC_BYTES, AREA_ALIGNMENT);
    const block = this.#ram.allocate(this.size * tableBytes);
    const bytes = this.#ram.view(block.gpa, block.bytes);
    for (let i = 0; i < this.size; i++) {
      const offset = i * tableBytes;
      this.#tables.push({
        buffer: new DmaBuffer(block.gpa + offset, block.host + offset, 0, Access.READ),
        data: new DataView(bytes.buffer, offset, tableBytes),
      });
    }
    return block;
  }

  /** The split ring itself, for drivers that break the rules on purpose. */
  get splitRing(): SplitDriverQueue {
    if (this.#split === undefined) throw new Error(`queue ${this.index} is packed`);
    return this.#split;
  }

  /**
   * Where a device takes the ring up that has lost its own count, as SET_VRING_BASE says it: after what was returned
   * last. A VMM reads that from a split ring's memory.
   */
  get base(): number {
    if (this.#packed === undefined) return this.splitRing.rings.usedIndex;
    const { used } = this.#packed.position;
    return ((used << 16) | used) >>> 0;
  }

  /** Chains that are with the device. */
  get inFlight(): number {
    return this.ring.inFlight;
  }

  /**
   * Maps the buffers and adds them as one chain, those that the device writes last. `owner` comes back from `next`;
   * the buffers stay as they are until then. False: no room in the ring, or no addresses; try again later.
   */
  add(buffers: readonly DmaBuffer[], owner: Owner): boolean {
    const table = buffers.length > 1 ? this.#tables.pop() : undefined;
    if (this.ring.freeDescriptors < (table === undefined ? buffers.length : 1) || !this.#mapAll(buffers)) {
      if (table !== undefined) this.#tables.push(table);
      return false;
    }
    if (table === undefined) {
      this.ring.begin();
      for (const { low, high, bytes, access } of buffers)
        this.ring.put(low, high, bytes, access !== Access.READ);
    } else {
      this.#fill(table, buffers);
      if (!this.#mapAll([table.buffer])) {
        for (const buffer of buffers) this.#dma.unmap(buffer);
        this.#tables.push(table);
        return false;
      }
      const { low, high, bytes } = table.buffer;
      this.ring.begin();
      this.ring.putTable(low, high, bytes, writableBytes(buffers));
    }
    const head = this.ring.commit();
    this.#owners[head] = owner;
    this.#buffers[head] = buffers;
    this.#tableOf[head] = table;
    return true;
  }

  #mapAll(buffers: readonly DmaBuffer[]): boolean {
    for (let i = 0; i < buffers.length; i++) {
      const buffer = buffers[i];
      if (this.#dma.map(buffer)) {
        this.#dma.assertReachable(buffer.low, buffer.high, buffer.bytes);
        continue;
      }
      for (let mapped = 0; mapped < i; mapped++) this.#dma.unmap(buffers[mapped]);
      return false;
    }
    return true;
  }

  #fill(table: Table, buffers: readonly DmaBuffer[]): void {
    const { data } = table;
    table.buffer.bytes = buffers.length * DESC_BYTES;
    for (let i = 0; i < buffers.length; i++) {
      const { low, high, bytes, access } = buffers[i];
      const isLast = i === buffers.length - 1;
      const at = i * DESC_BYTES;
      data.setUint32(at, low, true);
      data.setUint32(at + 4, high, true);
      data.setUint32(at + 8, bytes, true);
      const flags = (access === Access.READ ? 0 : DescFlag.WRITE) | (isLast ? 0 : DescFlag.NEXT);
      data.setUint16(at + 12, flags, true);
      data.setUint16(at + 14, isLast ? 0 : i + 1, true);
    }
  }

  /** Takes the next chain that the device returned and unmaps it; its used length is in `ring.usedLength`. */
  next(): Owner | undefined {
    const head = this.ring.pollUsed();
    if (head < 0) return undefined;
    const owner = this.#owners[head];
    this.#releaseHead(head);
    return owner;
  }

  #releaseHead(head: number): void {
    for (const buffer of this.#buffers[head] ?? []) this.#dma.unmap(buffer);
    const table = this.#tableOf[head];
    if (table !== undefined) {
      this.#dma.unmap(table.buffer);
      this.#tables.push(table);
    }
    this.#owners[head] = undefined;
    this.#buffers[head] = undefined;
    this.#tableOf[head] = undefined;
  }

  /** Shows the device what was added, and kicks it if it wants to know. */
  flush(): void {
    this.ring.publish();
    if (!this.ring.kickNeeded()) return;
    this.kicks++;
    signalEventfd(this.kickFd);
  }

  /** Takes the device's signal, if there is one. */
  drainCall(): void {
    if (drainEventfd(this.callFd) > 0) this.calls++;
  }

  /** Unmaps everything that is still in flight and frees the ring. The device has been stopped before. */
  release(): void {
    for (let head = 0; head < this.size; head++)
      if (this.#buffers[head] !== undefined) this.#releaseHead(head);
    this.#dma.freeCoherent(this.memory);
    if (this.#tableBlock !== undefined) this.#ram.free(this.#tableBlock);
  }
}
