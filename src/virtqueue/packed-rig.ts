/** For tests: a packed queue with both its ends over the memory of `queue-rig.ts`. */
import { PAGE_BYTES, view } from "../linux/mapping.js";
import type { PackedQueueSetup } from "./device-queue.js";
import { PackedDeviceQueue } from "./packed-device-queue.js";
import { PackedDriverQueue } from "./packed-driver-queue.js";
import { FIRST_POSITION, placePackedQueue } from "./packed-layout.js";
import { BUFFER_ROOM_BYTES, BUS_BASE, FakeSpace, inOrder, makeMemory } from "./queue-rig.js";

export interface PackedRigOptions {
  readonly size?: number;
  readonly eventIdx?: boolean;
  /** VIRTIO_F_INDIRECT_DESC; the driver has tables either way. */
  readonly indirect?: boolean;
  /** VIRTIO_F_IN_ORDER. */
  readonly inOrder?: boolean;
  readonly firstPosition?: number;
  readonly tableEntries?: number;
  /** The order of the pages; by default as the driver sees them. Called with how many there are. */
  readonly order?: (pages: number) => number[];
  /** Moves all areas by so many bytes from the start of a page. */
  readonly shift?: number;
}

export interface PackedRig {
  readonly space: FakeSpace;
  readonly driver: PackedDriverQueue<number>;
  readonly device: PackedDeviceQueue;
  readonly deviceSetup: PackedQueueSetup;
  /** The memory as the driver sees it. */
  readonly bytes: Uint8Array;
  /** Offsets within the memory. */
  readonly at: {
    readonly desc: number;
    readonly driverEvent: number;
    readonly deviceEvent: number;
    readonly tables: number;
    readonly buffers: number;
  };
}

export function makePackedRig(options: PackedRigOptions = {}): PackedRig {
  const { size = 7, tableEntries: entries = 4, shift = 0, eventIdx = false } = options;
  const placed = placePackedQueue(size);
  const tables = Math.ceil((shift + placed.totalBytes) / 16) * 16;
  const buffers = Math.ceil((tables + size * entries * 16) / PAGE_BYTES) * PAGE_BYTES;
  const pages = (buffers + BUFFER_ROOM_BYTES) / PAGE_BYTES;
  const order = options.order?.(pages) ?? inOrder(pages);
  const { driverHost, deviceHost } = makeMemory(order);
  const space = new FakeSpace(deviceHost, order);
  const desc = shift + placed.desc;
  const driverEvent = shift + placed.driverEvent;
  const deviceEvent = shift + placed.deviceEvent;
  const firstPosition = options.firstPosition ?? FIRST_POSITION;
  const driver = new PackedDriverQueue<number>({
    index: 1,
    size,
    desc: driverHost + desc,
    driverEvent: driverHost + driverEvent,
    deviceEvent: driverHost + deviceEvent,
    eventIdx,
    inOrder: options.inOrder ?? false,
    tables: { host: driverHost + tables, bus: BUS_BASE + BigInt(tables), entries },
    firstPosition,
  });
  const deviceSetup: PackedQueueSetup = {
    index: 1,
    size,
    ringSpace: space,
    bufferSpace: space,
    hostReader: space,
    desc: BUS_BASE + BigInt(desc),
    driverEvent: BUS_BASE + BigInt(driverEvent),
    deviceEvent: BUS_BASE + BigInt(deviceEvent),
    availPosition: firstPosition,
    usedPosition: firstPosition,
    eventIdx,
    indirect: options.indirect ?? true,
  };
  const device = new PackedDeviceQueue(deviceSetup);
  const bytes = new Uint8Array(view(driverHost, order.length * PAGE_BYTES));
  return {
    space,
    driver,
    device,
    deviceSetup,
    bytes,
    at: { desc, driverEvent, deviceEvent, tables, buffers },
  };
}

/** The bus address of byte `offset` of the room for buffers. */
export function packedBusOf(rig: PackedRig, offset: number): bigint {
  return BUS_BASE + BigInt(rig.at.buffers + offset);
}
