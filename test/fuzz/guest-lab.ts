/**
 * A whole device but for its session: the vsock backend with real queues, split or packed, over memory whose every change
 * is watched; and the guest's ends of the queues, with which anything can be sent. One thread, a clock of its own.
 */
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { VsockBackend } from "../../src/device/vsock-backend.js";
import { EventLoop } from "../../src/linux/event-loop.js";
import { createEventfd, signalEventfd } from "../../src/linux/eventfd.js";
import { Timers } from "../../src/linux/timers.js";
import { createLogger } from "../../src/log/logger.js";
import type { LogRecord } from "../../src/log/record.js";
import type { BackendQueue } from "../../src/vhost/backend-device.js";
import { F, maskOf, VSOCK_F, VSOCK_QUEUE } from "../../src/virtio/index.js";
import type { DeviceQueue } from "../../src/virtqueue/device-queue.js";
import type { QueueFailure } from "../../src/virtqueue/failure.js";
import { placeSplitQueue, usedBytes } from "../../src/virtqueue/layout.js";
import { PackedDeviceQueue } from "../../src/virtqueue/packed-device-queue.js";
import { PackedDriverQueue } from "../../src/virtqueue/packed-driver-queue.js";
import { FIRST_POSITION, packedDescBytes, placePackedQueue } from "../../src/virtqueue/packed-layout.js";
import { SplitDeviceQueue } from "../../src/virtqueue/split-device-queue.js";
import { SplitDriverQueue } from "../../src/virtqueue/split-driver-queue.js";
import { HEADER_BYTES, HOST_CID, PacketHeader } from "../../src/vsock/header.js";
import { DEFAULT_LIMITS } from "../../src/vsock/limits.js";
import { VsockSwitch } from "../../src/vsock/switch.js";
import { copyOf, type Fields, GUEST_CID, PairEndpoints, type Sent } from "../../src/vsock/switch-rig.js";
import { BUS_BASE, FuzzMemory, PAGE, type Span } from "./memory.js";

export const LAB_LIMITS = { ...DEFAULT_LIMITS, maxConnections: 6, bufferBytes: 128 * 1024 };
const SIZE = 32;
/** Each queue's areas; then buffers, of a page each, for packets to the guest; then those from it. */
const QUEUE_AREA = 2 * PAGE;
const RECEIVE_AT = 8 * PAGE;
const RECEIVE_SLOTS = 24;
const TRANSMIT_AT = RECEIVE_AT + RECEIVE_SLOTS * PAGE;
const TRANSMIT_BYTES = 40 * PAGE;
const MEMORY_BYTES = TRANSMIT_AT + TRANSMIT_BYTES;
/** Many times what any packet causes; a device that needs more goes round in circles. */
const MOST_TURNS = 3000;

export interface LabOptions {
  readonly packed?: boolean;
  readonly eventIdx?: boolean;
}

/** A queue with both its ends, as the backend and as the guest know it. */
class LabQueue implements BackendQueue {
  readonly queue: DeviceQueue;
  readonly driver: SplitDriverQueue<Span> | PackedDriverQueue<Span>;
  readonly kickFd = createEventfd();
  readonly dirtyLog = undefined;
  readonly driverFeatures: bigint;
  /** What the device may write of the ring. */
  readonly usedSpans: readonly Span[];
  failure: QueueFailure | undefined;

  constructor(
    readonly index: number,
    readonly views: FuzzMemory,
    { packed = false, eventIdx = false }: LabOptions,
    private readonly stopped: (index: number) => void,
  ) {
    const start = index * QUEUE_AREA;
    const host = (offset: number): number => views.host + start + offset;
    const bus = (offset: number): bigint => BUS_BASE + BigInt(start + offset);
    views.write(start, new Uint8Array(QUEUE_AREA));
    this.driverFeatures =
      maskOf(F.VERSION_1, VSOCK_F.VSOCK_SEQPACKET) | (packed ? maskOf(F.RING_PACKED) : 0n);
    const spaces = { ringSpace: views, bufferSpace: views, hostReader: views };
    const shared = { index, size: SIZE, eventIdx };
    const device = { ...shared, ...spaces, indirect: true, desc: bus(0) };
    if (packed) {
      const { driverEvent, deviceEvent } = placePackedQueue(SIZE);
      const areas = { desc: host(0), driverEvent: host(driverEvent), deviceEvent: host(deviceEvent) };
      this.driver = new PackedDriverQueue<Span>({ ...shared, ...areas });
      this.queue = new PackedDeviceQueue({
        ...device,
        ...{ driverEvent: bus(driverEvent), deviceEvent: bus(deviceEvent) },
        ...{ availPosition: FIRST_POSITION, usedPosition: FIRST_POSITION },
      });
      this.usedSpans = [
        { at: start, bytes: packedDescBytes(SIZE) },
        { at: start + deviceEvent, bytes: 4 },
      ];
    } else {
      const { avail, used } = placeSplitQueue(SIZE);
      const areas = { desc: host(0), avail: host(avail), used: host(used) };
      this.driver = new SplitDriverQueue<Span>({ ...shared, ...areas });
      this.queue = new SplitDeviceQueue({ ...device, avail: bus(avail), used: bus(used), base: 0 });
      this.usedSpans = [{ at: start + used, bytes: usedBytes(SIZE) }];
    }
  }

  notify(): boolean {
    return this.queue.needsNotification();
  }

  fail(failure: QueueFailure): void {
    this.failure = failure;
    this.stopped(this.index);
  }

  kick(): void {
    this.driver.publish();
    signalEventfd(this.kickFd);
  }
}

export class GuestLab {
  readonly clock = { ms: 0 };
  readonly loop = new EventLoop(undefined, new Timers(() => this.clock.ms));
  readonly memory = new FuzzMemory(MEMORY_BYTES);
  readonly endpoints = new PairEndpoints();
  readonly records: LogRecord[] = [];
  readonly vsock: VsockSwitch;
  readonly backend: VsockBackend;
  /** Receive buffers that the device holds, by slot. */
  readonly #offered = new Map<number, Span>();
  readonly #freeSlots = Array.from({ length: RECEIVE_SLOTS }, (_, slot) => slot);
  #transmitAt = 0;
  #queues: LabQueue[] = [];

  constructor(private readonly options: LabOptions = {}) {
    const log = createLogger({ level: "info", sink: (record) => this.records.push(record), now: () => 0 });
    const { loop, endpoints } = this;
    const limits = LAB_LIMITS;
    const firstAssignedPort = 2 ** 30;
    this.vsock = new VsockSwitch({
      ...{ loop, endpoints, limits, log, firstAssignedPort },
      guestCid: GUEST_CID,
    });
    this.backend = new VsockBackend(loop, this.vsock, GUEST_CID, log, () => {});
    this.#start();
  }

  /** Why the device gave a queue up, by its number; undefined while it serves it. */
  failureOf(index: number): QueueFailure | undefined {
    return this.#queues[index].failure;
  }

  get #receive(): LabQueue {
    return this.#queues[VSOCK_QUEUE.rx];
  }

  get #transmit(): LabQueue {
    return this.#queues[VSOCK_QUEUE.tx];
  }

  #start(): void {
    this.#queues = [VSOCK_QUEUE.rx, VSOCK_QUEUE.tx].map(
      (index) =>
        new LabQueue(index, this.memory, this.options, (stopped) => this.backend.queueStopped(stopped)),
    );
    for (const queue of this.#queues) this.backend.queueStarted(queue);
  }

  #stop(): void {
    for (const queue of this.#queues) {
      if (queue.failure === undefined) this.backend.queueStopped(queue.index);
      closeSync(queue.kickFd);
    }
  }

  /** The guest boots anew: its queues start over, its connections are forgotten. */
  restart(): void {
    this.#stop();
    for (const slot of this.#offered.keys()) this.#freeSlots.push(slot);
    this.#offered.clear();
    this.#transmitAt = 0;
    this.#start();
    this.settle();
  }

  /** Gives the device a buffer of `bytes`, in pieces of `piece` and the rest. False: there is no room for one. */
  offer(bytes = PAGE, piece = bytes): boolean {
    const slot = this.#freeSlots[0];
    if (slot === undefined || this.#receive.failure !== undefined) return false;
    const span = { at: RECEIVE_AT + slot * PAGE, bytes };
    const pieces = cut(span, [piece]);
    if (bytes === 0 || this.#receive.driver.add([], pieces, span) < 0) return false;
    this.#freeSlots.shift();
    this.#offered.set(slot, span);
    return true;
  }

  offerAll(): void {
    while (this.offer());
    this.#receive.kick();
  }

  kickReceive(): void {
    this.#receive.kick();
  }

  /** A packet from the guest, in pieces of the lengths given; the last repeats. False: the ring has no room for it. */
  send(
    fields: Fields,
    payload: Uint8Array = new Uint8Array(0),
    framing: readonly number[] = [70_000],
    extraBytes = 0,
  ): boolean {
    const header = Object.assign(new PacketHeader(), {
      ...{ srcCid: GUEST_CID, dstCid: HOST_CID, len: payload.length },
      ...fields,
    });
    const bytes = new Uint8Array(HEADER_BYTES + payload.length + extraBytes);
    header.write(new DataView(bytes.buffer), 0);
    bytes.set(payload, HEADER_BYTES);
    return this.sendBytes(bytes, framing);
  }

  /** Whatever it is. */
  sendBytes(bytes: Uint8Array, framing: readonly number[]): boolean {
    const queue = this.#transmit;
    if (queue.failure !== undefined || bytes.length === 0) return false;
    this.#reclaim();
    if (this.#transmitAt + bytes.length > TRANSMIT_BYTES) return false;
    const span = { at: TRANSMIT_AT + this.#transmitAt, bytes: bytes.length };
    this.memory.write(span.at, bytes);
    if (queue.driver.add(cut(span, framing), [], span) < 0) return false;
    this.#transmitAt += bytes.length;
    queue.kick();
    this.settle();
    return true;
  }

  #reclaim(): void {
    const { driver } = this.#transmit;
    while (driver.pollUsed() >= 0)
      assert.equal(driver.usedLength, 0, "bytes written into a packet of the guest");
    if (driver.inFlight === 0) this.#transmitAt = 0;
  }

  /** Lets the device work until it rests, and looks at what it wrote. */
  settle(): void {
    this.memory.accept();
    let turns = 0;
    while (this.loop.turn(0)) assert.ok(++turns < MOST_TURNS, "the device never rests");
    const allowed = [...this.#queues.flatMap(({ usedSpans }) => usedSpans), ...this.#offered.values()];
    this.memory.assertWritten(allowed, "the device");
    assert.ok(this.vsock.connectionCount <= LAB_LIMITS.maxConnections, "more connections than the limit");
  }

  pass(ms: number): void {
    this.clock.ms += ms;
    this.settle();
  }

  /** The packets that came since the last call. Their buffers are the guest's again. */
  take(): Sent[] {
    const packets: Sent[] = [];
    const { driver } = this.#receive;
    for (let head = driver.pollUsed(); head >= 0; head = driver.pollUsed())
      packets.push(this.#packetOf(driver.usedLength));
    for (const { driver: each, index } of this.#queues)
      assert.equal(each.failure, undefined, `the device broke a rule of queue ${index}`);
    return packets;
  }

  /** Buffers come back in the order in which they were offered: the device takes them one after the other. */
  #packetOf(usedLength: number): Sent {
    const [first] = this.#offered;
    assert.ok(first !== undefined, "a buffer that the device was not given");
    const [slot, { at, bytes }] = first;
    this.#offered.delete(slot);
    this.#freeSlots.push(slot);
    assert.ok(
      usedLength >= HEADER_BYTES && usedLength <= bytes,
      `${usedLength} bytes in a buffer of ${bytes}`,
    );
    const header = new PacketHeader();
    header.read(this.memory.data, at);
    assert.equal(HEADER_BYTES + header.len, usedLength, "the length of a packet and of what was written");
    assert.deepEqual([header.dstCid, header.dstCidHigh], [GUEST_CID, 0], "a packet for somebody else");
    const payload = Buffer.from(this.memory.bytes.subarray(at + HEADER_BYTES, at + usedLength));
    return { header: copyOf(header), payload };
  }

  close(): void {
    this.#stop();
    this.backend.sessionEnded("the test is over");
    this.vsock.close();
    this.loop.close();
    for (const host of this.endpoints.accepted) host.close();
    this.memory.close();
  }
}

/** The pieces of a span, as bus addresses. */
function cut({ at, bytes }: Span, framing: readonly number[]): { address: bigint; length: number }[] {
  const pieces: { address: bigint; length: number }[] = [];
  for (let done = 0; done < bytes; ) {
    const length = Math.min(Math.max(1, framing[Math.min(pieces.length, framing.length - 1)]), bytes - done);
    pieces.push({ address: BUS_BASE + BigInt(at + done), length });
    done += length;
  }
  return pieces;
}
