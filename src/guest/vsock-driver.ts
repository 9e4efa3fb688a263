/**
 * A virtio-vsock driver in user space, as Linux's net/vmw_vsock/virtio_transport.c: three queues over guest memory,
 * stream and seqpacket sockets on top. It talks to a device through its memory and eventfds alone, and must not know the device,
 * nor who plays the VMM. Layers beneath: `mapped-queue.ts` (rings and DMA), `connection.ts` (one socket).
 */
import { closeSync } from "node:fs";
import { EPOLLIN } from "../linux/epoll.js";
import type { EventLoop } from "../linux/event-loop.js";
import { createEventfd } from "../linux/eventfd.js";
import type { Timer } from "../linux/timers.js";
import { Access } from "../memory/address.js";
import { F, has, VSOCK_F, VSOCK_QUEUE } from "../virtio/index.js";
import { HEADER_BYTES, HOST_CID, Op, PacketHeader, SocketType } from "../vsock/header.js";
import { CONNECT_TIMEOUT_MS, type ConnectionHost, GuestConnection } from "./connection.js";
import { ConnectionTable } from "./connection-table.js";
import { DmaBuffer, type DmaMapper } from "./dma.js";
import { DirectMapper } from "./dma-direct.js";
import { type Framing, LINUX } from "./framing.js";
import type { GuestRam, RamBlock } from "./guest-ram.js";
import { DEFAULT_BACKLOG, GuestListener } from "./listener.js";
import { MappedQueue } from "./mapped-queue.js";
import { makeReceiveSlots, type ReceiveSlot, type TransmitSlot } from "./packet-slots.js";
import type { Platform } from "./platform.js";
import { GuestSeqpacketConnection } from "./seqpacket-connection.js";
import { Transmitter } from "./transmitter.js";

export interface VsockDriverOptions {
  readonly platform: Platform;
  /** What the guest acknowledged (`features.ts`). Without bit 33 the platform's mapper is gone around. */
  readonly features: bigint;
  /** Reads the guest's address from the device's configuration space: at the start and after TRANSPORT_RESET. */
  readonly readCid: () => number;
  readonly loop: EventLoop;
  /** Descriptors per queue; QEMU's default is 128. */
  readonly queueSize?: number;
  readonly framing?: Framing;
  /** `buf_alloc` of each connection; default 256 KiB. */
  readonly bufferBytes?: number;
  /** Instead of the DMA that platform and features ask for: a hostile driver's (`dma-hostile.ts`). */
  readonly dma?: DmaMapper;
}

/** What Linux posts to the event queue: 8 buffers of one `struct virtio_vsock_event { le32 id; }`. */
const EVENT_BUFFERS = 8;
const EVENT_BYTES = 4;
const EVENT_QUEUE_SIZE = 8;
const TRANSPORT_RESET = 0;
const DEFAULT_QUEUE_SIZE = 128;

/** The two classes of sockets, which are made alike. */
type SocketKind<Socket extends GuestConnection> = new (
  ...args: ConstructorParameters<typeof GuestConnection>
) => Socket;

/** A listener, whatever it takes. */
interface PortListener {
  readonly type: number;
  readonly isFull: boolean;
  accept(header: PacketHeader): void;
}

export class VsockDriver implements ConnectionHost {
  /** The queues in the order of their numbers: receive, transmit, event. */
  readonly queues: readonly [MappedQueue<ReceiveSlot>, MappedQueue<TransmitSlot>, MappedQueue<DmaBuffer>];
  /** How its DMA works: the platform's way, or around it. */
  readonly dma: DmaMapper;
  /** Packets that came and were not understood: too short, or shorter than they say. */
  droppedPackets = 0;
  /** How long `connect` waits for an answer from now on: SO_VM_SOCKETS_CONNECT_TIMEOUT of the program's sockets. */
  connectTimeoutMs = CONNECT_TIMEOUT_MS;

  readonly #options: VsockDriverOptions;
  readonly #ram: GuestRam;
  readonly #transmitter: Transmitter;
  readonly #connections = new ConnectionTable();
  readonly #listeners = new Map<number, PortListener>();
  readonly #header = new PacketHeader();
  readonly #blocks: RamBlock[] = [];
  readonly #idleReceiveSlots: ReceiveSlot[];
  readonly #idleEvents: DmaBuffer[] = [];
  readonly #tokens: number[];
  #stopped = false;
  #sendingIsDue = false;

  constructor(options: VsockDriverOptions) {
    const { platform, features, loop } = options;
    this.#options = options;
    this.#ram = platform.ram;
    const honest = has(features, F.ACCESS_PLATFORM) ? platform.mapper : new DirectMapper(platform.ram);
    this.dma = options.dma ?? honest;
    const framing = options.framing ?? LINUX;
    const size = options.queueSize ?? DEFAULT_QUEUE_SIZE;
    const mostBuffers = Transmitter.mostBuffers(framing);
    this.queues = [
      this.#makeQueue(VSOCK_QUEUE.rx, size, mostBuffers),
      this.#makeQueue(VSOCK_QUEUE.tx, size, mostBuffers),
      this.#makeQueue(VSOCK_QUEUE.event, EVENT_QUEUE_SIZE, 1),
    ];
    this.#transmitter = new Transmitter(options.readCid(), platform.ram, this.queues[1], framing);
    const receive = makeReceiveSlots(platform.ram, size, framing.receive);
    this.#blocks.push(receive.block);
    this.#idleReceiveSlots = receive.slots;
    this.#makeEventBuffers();
    this.#tokens = this.queues.map((queue) =>
      loop.watch(queue.callFd, EPOLLIN, {
        onEvents: () => {
          queue.drainCall();
          this.service();
        },
      }),
    );
  }

  #makeQueue<Owner extends object>(index: number, size: number, mostBuffers: number): MappedQueue<Owner> {
    const { features } = this.#options;
    return new MappedQueue<Owner>({
      index,
      size,
      mostBuffers,
      packed: has(features, F.RING_PACKED),
      inOrder: has(features, F.IN_ORDER),
      eventIdx: has(features, F.EVENT_IDX),
      indirect: has(features, F.INDIRECT_DESC),
      ram: this.#ram,
      dma: this.dma,
      kickFd: createEventfd(),
      callFd: createEventfd(),
    });
  }

  #makeEventBuffers(): void {
    const block = this.#ram.allocate(EVENT_BUFFERS * EVENT_BYTES);
    this.#blocks.push(block);
    for (let i = 0; i < EVENT_BUFFERS; i++) {
      const offset = i * EVENT_BYTES;
      this.#idleEvents.push(
        new DmaBuffer(block.gpa + offset, block.host + offset, EVENT_BYTES, Access.WRITE),
      );
    }
  }

  get cid(): number {
    return this.#transmitter.cid;
  }

  get connectionCount(): number {
    return this.#connections.count;
  }

  /** The device is running (DRIVER_OK): gives it buffers. Linux does the same after `virtio_device_ready`. */
  start(): void {
    this.#refillReceive();
    this.#refillEvents();
    for (const queue of this.queues) queue.ring.enableNotifications();
    this.service();
  }

  // ---- the application's side ----------------------------------------------------------------------------------

  /** Connects to a port of the host, or of the guest with CID `cid`. Rejects with GuestSocketError. */
  connect(port: number, cid?: number): Promise<GuestConnection> {
    return this.#connect(port, cid, GuestConnection);
  }

  /** The same with a seqpacket socket, whatever was negotiated: without the feature the device answers with a reset. */
  connectSeqpacket(port: number, cid?: number): Promise<GuestSeqpacketConnection> {
    return this.#connect(port, cid, GuestSeqpacketConnection);
  }

  async #connect<Socket extends GuestConnection>(
    port: number,
    cid: number | undefined,
    Kind: SocketKind<Socket>,
  ): Promise<Socket> {
    const { bufferBytes } = this.#options;
    const local = this.#connections.ephemeralPort();
    const connection = new Kind(this, local, port, "connecting", bufferBytes, cid);
    this.#connections.add(connection);
    const opened = connection.open(this.connectTimeoutMs);
    this.control(connection, Op.REQUEST);
    await opened;
    return connection;
  }

  /** Listens on a port. Throws if somebody does already. */
  listen(port: number, backlog = DEFAULT_BACKLOG): GuestListener {
    return this.#listen(port, backlog, GuestConnection, SocketType.STREAM);
  }

  /** The same for seqpacket sockets; a port is one type's only. */
  listenSeqpacket(port: number, backlog = DEFAULT_BACKLOG): GuestListener<GuestSeqpacketConnection> {
    return this.#listen(port, backlog, GuestSeqpacketConnection, SocketType.SEQPACKET);
  }

  #listen<Socket extends GuestConnection>(
    port: number,
    backlog: number,
    Kind: SocketKind<Socket>,
    type: number,
  ): GuestListener<Socket> {
    if (this.#listeners.has(port)) throw new Error(`port ${port} has a listener already`);
    const listener = new GuestListener<Socket>(port, backlog, () => this.#listeners.delete(port), type);
    this.#listeners.set(port, {
      type,
      get isFull() {
        return listener.isFull;
      },
      accept: (header) => listener.offer(this.#accepted(header, Kind)),
    });
    return listener;
  }

  // ---- the device's side ---------------------------------------------------------------------------------------

  /** Takes everything that the device has returned, and sends everything that is due. */
  service(): void {
    if (this.#stopped) return;
    const [receive, transmit, event] = this.queues;
    let again = true;
    while (again) {
      receive.ring.disableNotifications();
      for (let slot = receive.next(); slot !== undefined; slot = receive.next()) {
        this.#received(slot, receive.ring.usedLength);
        this.#idleReceiveSlots.push(slot);
      }
      this.#transmitter.reclaim();
      for (let buffer = event.next(); buffer !== undefined; buffer = event.next()) this.#event(buffer);
      again = receive.ring.enableNotifications();
      again = transmit.ring.enableNotifications() || again;
      again = event.ring.enableNotifications() || again;
      this.#refillReceive();
      this.#transmitter.send();
    }
    this.#refillEvents();
  }

  #received(slot: ReceiveSlot, usedBytes: number): void {
    const header = this.#header;
    if (usedBytes < HEADER_BYTES || usedBytes > slot.capacity) {
      this.droppedPackets++;
      return;
    }
    header.read(slot.header(), 0);
    if (header.len > usedBytes - HEADER_BYTES) {
      this.droppedPackets++;
      return;
    }
    this.#dispatch(slot);
  }

  /** Linux: `virtio_transport_recv_pkt`. */
  #dispatch(slot: ReceiveSlot): void {
    const header = this.#header;
    if (header.srcCid < HOST_CID || header.dstCid !== this.cid) {
      this.droppedPackets++;
      return;
    }
    const connection = this.#connections.find(header.dstPort, header.srcPort, header.srcCid);
    if (connection !== undefined && connection.type === header.type) {
      const { len } = header;
      connection.packet(header, (take) => slot.payload(HEADER_BYTES, len, take));
      return;
    }
    if (connection === undefined && header.op === Op.REQUEST && this.#accept()) return;
    if (header.op !== Op.RST) this.#transmitter.refuse(header);
  }

  #accept(): boolean {
    const header = this.#header;
    const listener = this.#listeners.get(header.dstPort);
    if (listener === undefined || listener.isFull || listener.type !== header.type) return false;
    if (header.type !== SocketType.STREAM && !has(this.#options.features, VSOCK_F.VSOCK_SEQPACKET))
      return false;
    listener.accept(header);
    return true;
  }

  #accepted<Socket extends GuestConnection>(header: PacketHeader, Kind: SocketKind<Socket>): Socket {
    const { dstPort, srcPort, srcCid, bufAlloc, fwdCnt } = header;
    const { bufferBytes } = this.#options;
    const connection = new Kind(this, dstPort, srcPort, "established", bufferBytes, srcCid);
    connection.credit.peerBufAlloc = bufAlloc;
    connection.credit.peerFwdCnt = fwdCnt;
    this.#connections.add(connection);
    this.#transmitter.control(connection, Op.RESPONSE, 0);
    return connection;
  }

  #event(buffer: DmaBuffer): void {
    const isWhole = this.queues[2].ring.usedLength === EVENT_BYTES;
    const id = new DataView(this.#ram.view(buffer.gpa, EVENT_BYTES).slice().buffer).getUint32(0, true);
    this.#idleEvents.push(buffer);
    if (!isWhole || id !== TRANSPORT_RESET) return;
    for (const connection of this.#connections.all()) connection.transportReset();
    this.#transmitter.cid = this.#options.readCid();
  }

  /** Linux refills once fewer than half are with the device. */
  #refillReceive(): void {
    const queue = this.queues[0];
    const slots = this.#idleReceiveSlots;
    if (slots.length <= queue.size / 2 && queue.inFlight > 0) return;
    for (let slot = slots.pop(); slot !== undefined; slot = slots.pop()) {
      if (queue.add(slot.buffers, slot)) continue;
      slots.push(slot);
      break;
    }
    queue.flush();
  }

  #refillEvents(): void {
    const queue = this.queues[2];
    for (let buffer = this.#idleEvents.pop(); buffer !== undefined; buffer = this.#idleEvents.pop()) {
      if (queue.add([buffer], buffer)) continue;
      this.#idleEvents.push(buffer);
      break;
    }
    queue.flush();
  }

  // ---- ConnectionHost ------------------------------------------------------------------------------------------

  control(connection: GuestConnection, op: number, flags = 0): void {
    this.#transmitter.control(connection, op, flags);
    this.#sendSoon();
  }

  wantsToSend(connection: GuestConnection): void {
    this.#transmitter.wantsToSend(connection);
    this.#sendSoon();
  }

  forget(connection: GuestConnection): void {
    this.#connections.remove(connection);
    this.#transmitter.forget(connection);
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    return this.#options.loop.setTimer(delayMs, callback);
  }

  /** Once for everything that the application does in one go. */
  #sendSoon(): void {
    if (this.#sendingIsDue) return;
    this.#sendingIsDue = true;
    queueMicrotask(() => {
      this.#sendingIsDue = false;
      if (this.#stopped) return;
      this.#transmitter.reclaim();
      this.#transmitter.send();
    });
  }

  /** The device has been stopped: lets go of all memory and descriptors. Connections end as by a reset. */
  release(): void {
    this.#stopped = true;
    for (const connection of this.#connections.all()) connection.transportReset();
    this.queues.forEach((queue, index) => {
      this.#options.loop.unwatch(queue.callFd, this.#tokens[index]);
      queue.release();
      closeSync(queue.kickFd);
      closeSync(queue.callFd);
    });
    this.#transmitter.release();
    for (const block of this.#blocks) this.#ram.free(block);
  }
}
