/**
 * A virtio-vsock driver for measuring: it must not be what limits a device, and must not favour one. Headers and
 * descriptors are prepared; of a packet only the header fields that have to change are written, and payload is neither
 * written nor read. Credit is obeyed and given as Linux does. One thread that does nothing else.
 *
 * What Linux 6.12 does and this does as well: receive buffers of one descriptor of 3776 bytes; a data packet is a
 * descriptor for the header and one for the payload (direct ones: no indirect table, as not every device offers it);
 * all packets that fit are made available before the device is kicked; notifications are asked for before sleeping only.
 */

import { EPOLLET, EPOLLIN, Epoll } from "../src/linux/epoll.js";
import { Access } from "../src/memory/address.js";
import { F, has, maskOf } from "../src/virtio/index.js";
import { DescFlag } from "../src/virtqueue/layout.js";
import { HEADER_BYTES, HEADER_LAYOUT, HOST_CID, Op, Shutdown, SocketType } from "../src/vsock/header.js";
import type { Addressing, Tally } from "./commands.js";
import { Buffers, type DriverDma } from "./driver-dma.js";
import { LARGEST_PAYLOAD_BYTES, layoutFor, openDma } from "./driver-layout.js";
import { PreparedRing } from "./prepared-ring.js";
import { TranslatingFrontEnd } from "./translation-front-end.js";

/** SKB_WITH_OVERHEAD(4096) on x86-64. */
const RECEIVE_BUFFER_BYTES = 3776;
const PAGE = 4096;
/** Linux's default buffer of a vsock socket, VSOCK_DEFAULT_BUFFER_SIZE. */
export const GUEST_BUFFER_BYTES = 256 * 1024;
const STALL_MS = 2000;

const word = (name: (typeof HEADER_LAYOUT)[number]["name"]): number => {
  const field = HEADER_LAYOUT.find((entry) => entry.name === name);
  return (field?.offset ?? 0) >> 2;
};
const SRC_CID = word("srcCid");
const DST_CID = word("dstCid");
const SRC_PORT = word("srcPort");
const DST_PORT = word("dstPort");
const LEN = word("len");
/** `type` in the lower half, `op` in the upper one. */
const TYPE_OP = word("type");
const FLAGS = word("flags");
const BUF_ALLOC = word("bufAlloc");
const FWD_CNT = word("fwdCnt");

/** One connection, as far as a driver that keeps no data has to know it. */
export class Link {
  isOpen = false;
  /** Of the device: what it takes, and what it has taken; counters modulo 2^32. */
  peerBufAlloc = 0;
  peerFwdCnt = 0;
  sent = 0;
  received = 0;
  /** `fwd_cnt` of the packet that told it last. */
  told = 0;
  /** What is left of the message that is being sent. */
  messageLeft = 0;
  /** In the queue of those that may send. */
  isReady = false;
  /** In the list of those that have got data since the driver was idle. */
  isUntold = false;
  /** What the other side said that it will not do any more. */
  shut = 0;

  constructor(
    readonly localPort: number,
    readonly peerPort: number,
  ) {}

  get credit(): number {
    return Math.max(0, this.peerBufAlloc - ((this.sent - this.peerFwdCnt) >>> 0));
  }
}

/** What a kind of work does with what comes. Everything is called from within `turn`. */
export interface Events {
  opened?(link: Link): void;
  /** Credit may have grown. */
  credited?(link: Link): void;
  data?(link: Link, bytes: number): void;
  closed?(link: Link): void;
}

interface Control {
  readonly localPort: number;
  readonly peerPort: number;
  readonly op: number;
  readonly flags: number;
  readonly fwdCnt: number;
}

export interface DriverOptions {
  readonly socketPath: string;
  readonly queueSize: number;
  /** The guest gives credit as Linux does since 6.8, else as before. */
  readonly tellsWhenEmpty: boolean;
  /** What the guest's connections advertise; default as Linux. */
  readonly bufferBytes?: number | undefined;
  /** Whom all of its packets are for; default the host. */
  readonly peerCid?: number | undefined;
  /** Undefined: guest-physical addresses, in the layout of the comparison with others. */
  readonly addressing?: Addressing;
}

// What the driver waits for.
const RECEIVE_CALLED = 0;
const TRANSMIT_CALLED = 1;
const ASKED = 2;

export class MeasuringDriver {
  readonly receiveRing: PreparedRing;
  readonly transmitRing: PreparedRing;
  events: Events = {};
  /** How often it slept. */
  sleeps = 0;

  readonly #dma: DriverDma;
  readonly #mapsEachTime: boolean;
  readonly #epoll = new Epoll();
  readonly #links = new Map<number, Link>();
  readonly #untold: Link[] = [];
  readonly #tellsWhenEmpty: boolean;
  readonly #bufferBytes: number;
  /** Who got the last packet: streams come in runs. */
  #latest: Link | undefined;

  readonly #dataSlots: number;
  readonly #freeData: number[] = [];
  readonly #freeControl: number[] = [];
  readonly #pending: Control[] = [];
  /** All of the driver's memory. */
  readonly #words: Uint32Array;
  readonly #receiveBuffers: Buffers;
  /** Those of the data slots first, then those of the control slots. */
  readonly #headers: Buffers;
  readonly #payloads: Buffers;
  /** What the payload descriptor of each slot says: written only where it changes. */
  readonly #payloadBytes: Uint32Array;
  /** Heads that came back, where their buffers are unmapped before anything is done with them. */
  readonly #returned: Uint16Array;

  /** Connects to the back-end and starts it, in QEMU's order. */
  constructor(options: DriverOptions) {
    const { socketPath, queueSize: size, tellsWhenEmpty, bufferBytes, addressing } = options;
    this.#tellsWhenEmpty = tellsWhenEmpty;
    this.#bufferBytes = bufferBytes ?? GUEST_BUFFER_BYTES;
    const layout = layoutFor(size, addressing);
    const dma = openDma(socketPath, layout, addressing);
    this.#dma = dma;
    this.#mapsEachTime = dma.mapsEachTime;
    const { arena, frontEnd } = dma;
    const offered = frontEnd.initialize();
    const features = (offered & maskOf(F.VERSION_1, F.EVENT_IDX)) | dma.features;
    const eventIdx = has(features, F.EVENT_IDX);
    const ring = (): PreparedRing => {
      const offset = arena.allocate(PreparedRing.bytesFor(size));
      return new PreparedRing({ host: arena.hostOf(offset), bus: dma.busOf(offset) }, size, eventIdx);
    };
    this.receiveRing = ring();
    this.transmitRing = ring();
    const { dataSlots, controlSlots } = layout;
    this.#dataSlots = dataSlots;
    this.#payloadBytes = new Uint32Array(dataSlots);
    this.#returned = new Uint16Array(size);
    this.#words = arena.words;
    this.#receiveBuffers = new Buffers(arena, size, PAGE, Access.WRITE);
    this.#headers = new Buffers(arena, dataSlots + controlSlots, layout.headerStride, Access.READ);
    this.#payloads = new Buffers(arena, dataSlots, LARGEST_PAYLOAD_BYTES, Access.READ);
    this.#prepareHeaders(frontEnd.readCid(), options.peerCid ?? HOST_CID);
    for (let slot = 0; slot < dataSlots; slot++) this.#freeData.push(slot);
    for (let slot = 0; slot < controlSlots; slot++) this.#freeControl.push(dataSlots + slot);
    if (!this.#mapsEachTime) this.#prepareDescriptors();

    frontEnd.start(features, [this.receiveRing, this.transmitRing]);
    dma.started();
    for (let i = 0; i < size; i++) this.#postReceive(i);
    this.receiveRing.publish();
    this.#epoll.add(this.receiveRing.callFd, EPOLLIN | EPOLLET, RECEIVE_CALLED);
    this.#epoll.add(this.transmitRing.callFd, EPOLLIN | EPOLLET, TRANSMIT_CALLED);
    if (dma.questionFd >= 0) this.#epoll.add(dma.questionFd, EPOLLIN, ASKED);
  }

  #prepareHeaders(cid: number, peerCid: number): void {
    const words = this.#words;
    for (let slot = 0; slot < this.#headers.count; slot++) {
      const at = this.#headers.word[slot];
      words[at + SRC_CID] = cid;
      words[at + DST_CID] = peerCid;
      words[at + BUF_ALLOC] = this.#bufferBytes;
    }
    // Written once, so that there are pages; never again.
    const payload = this.#payloads;
    for (let offset = payload.offsetOf(0); offset < payload.offsetOf(payload.count); offset += PAGE)
      words.fill(0x55555555, payload.arena.wordOf(offset), payload.arena.wordOf(offset) + (PAGE >> 2));
  }

  /** Addresses that stay are written once. */
  #prepareDescriptors(): void {
    for (let i = 0; i < this.#receiveBuffers.count; i++) this.#describeReceive(i);
    for (let slot = 0; slot < this.#headers.count; slot++) this.#describeHeader(slot);
    for (let slot = 0; slot < this.#dataSlots; slot++)
      this.#dma.map(this.#payloads, slot, LARGEST_PAYLOAD_BYTES);
  }

  #describeReceive(index: number): void {
    const { low, high } = this.#receiveBuffers;
    this.#dma.map(this.#receiveBuffers, index, RECEIVE_BUFFER_BYTES);
    this.receiveRing.rings.setDescriptor(
      index,
      low[index],
      high[index],
      RECEIVE_BUFFER_BYTES,
      DescFlag.WRITE,
    );
  }

  #describeHeader(slot: number): void {
    const { low, high } = this.#headers;
    this.#dma.map(this.#headers, slot, HEADER_BYTES);
    const { rings } = this.transmitRing;
    const head = this.#headOf(slot);
    rings.setDescriptor(head, low[slot], high[slot], HEADER_BYTES, 0);
    if (slot < this.#dataSlots) rings.link(head, head + 1);
  }

  #postReceive(index: number): void {
    if (this.#mapsEachTime) this.#describeReceive(index);
    this.receiveRing.post(index);
  }

  /** What there was of translation since this was last asked. */
  takeTally(): Tally | undefined {
    const { frontEnd } = this.#dma;
    return frontEnd instanceof TranslatingFrontEnd ? frontEnd.takeTally() : undefined;
  }

  #headOf(slot: number): number {
    return slot < this.#dataSlots ? 2 * slot : slot + this.#dataSlots;
  }

  #slotOf(head: number): number {
    return head < 2 * this.#dataSlots ? head >> 1 : head - this.#dataSlots;
  }

  get linkCount(): number {
    return this.#links.size;
  }

  // ---- sending -------------------------------------------------------------------------------------------------

  get canSendData(): boolean {
    return this.#freeData.length > 0;
  }

  /** Sends so many bytes of payload; there is a slot, and credit for them. */
  sendData(link: Link, bytes: number): void {
    const slot = this.#freeData.pop() as number;
    const at = this.#headers.word[slot];
    const headers = this.#words;
    headers[at + SRC_PORT] = link.localPort;
    headers[at + DST_PORT] = link.peerPort;
    headers[at + LEN] = bytes;
    headers[at + TYPE_OP] = SocketType.STREAM | (Op.RW << 16);
    headers[at + FWD_CNT] = link.received;
    const head = 2 * slot;
    if (this.#mapsEachTime) {
      this.#describeHeader(slot);
      this.#dma.map(this.#payloads, slot, bytes);
    }
    if (this.#mapsEachTime || this.#payloadBytes[slot] !== bytes) {
      this.#payloadBytes[slot] = bytes;
      const { low, high } = this.#payloads;
      this.transmitRing.rings.setDescriptor(head + 1, low[slot], high[slot], bytes, 0);
    }
    link.told = link.received;
    link.sent = (link.sent + bytes) >>> 0;
    this.transmitRing.post(head);
  }

  /** Opens a connection to a host port; `opened` or `closed` follows. */
  open(localPort: number, port: number): Link {
    const link = new Link(localPort, port);
    this.#links.set(keyOf(localPort, port), link);
    this.#control(link, Op.REQUEST, 0);
    return link;
  }

  /** Asks for the end; the device answers with RST, and `closed` follows. */
  close(link: Link): void {
    this.#control(link, Op.SHUTDOWN, Shutdown.BOTH);
  }

  /** Ends it at once. */
  reset(link: Link): void {
    this.#control(link, Op.RST, 0);
    this.#forget(link);
  }

  resetAll(): void {
    for (const link of [...this.#links.values()]) this.reset(link);
    while (this.#pending.length > 0 || this.transmitRing.inFlight > 0) this.turnOrStall(true);
  }

  #control({ localPort, peerPort, received }: Link, op: number, flags: number): void {
    this.#send({ localPort, peerPort, op, flags, fwdCnt: received });
  }

  #send(control: Control): void {
    const slot = this.#freeControl.pop();
    if (slot === undefined) {
      this.#pending.push(control);
      return;
    }
    const at = this.#headers.word[slot];
    const headers = this.#words;
    headers[at + SRC_PORT] = control.localPort;
    headers[at + DST_PORT] = control.peerPort;
    headers[at + TYPE_OP] = SocketType.STREAM | (control.op << 16);
    headers[at + FLAGS] = control.flags;
    headers[at + FWD_CNT] = control.fwdCnt;
    if (this.#mapsEachTime) this.#describeHeader(slot);
    this.transmitRing.post(this.#headOf(slot));
  }

  // ---- one turn ------------------------------------------------------------------------------------------------

  /**
   * Takes what the device has returned and shows it what was posted since the last turn. If there was nothing to take,
   * sleeps until there is, `timeoutMs` at most; returns false if nothing came. `fullRing` says that the work waits for
   * room in the transmit ring: then half of what is there has to come back first.
   */
  turn(timeoutMs: number, fullRing = false): boolean {
    const hasTaken = this.#take();
    if (!hasTaken) this.#tellAll();
    this.receiveRing.publish();
    this.transmitRing.publish();
    if (hasTaken) return true;
    const { receiveRing, transmitRing } = this;
    const waitsForRoom = fullRing || this.#pending.length > 0;
    const isQuiet = receiveRing.arm(0) && (!waitsForRoom || transmitRing.arm(transmitRing.inFlight >> 1));
    if (!isQuiet || timeoutMs === 0) return !isQuiet;
    this.sleeps++;
    const events = this.#epoll.wait(timeoutMs);
    for (let index = 0; index < events; index++) if (this.#epoll.token(index) === ASKED) this.#dma.serve();
    return events > 0;
  }

  /** As `turn`, for work that always has something to wait for: a device that does not go on is an error. */
  turnOrStall(fullRing = false): void {
    if (!this.turn(STALL_MS, fullRing) && !this.#take())
      throw new Error(
        `the device has returned nothing for ${STALL_MS} ms: ${this.transmitRing.inFlight} packets are with it, ${this.#links.size} connections`,
      );
  }

  #take(): boolean {
    let hasTaken = false;
    const { receiveRing, transmitRing } = this;
    for (let head = transmitRing.take(); head >= 0; head = transmitRing.take()) {
      const slot = this.#slotOf(head);
      if (this.#mapsEachTime) this.#unmapSent(slot);
      (slot < this.#dataSlots ? this.#freeData : this.#freeControl).push(slot);
      hasTaken = true;
    }
    if (this.#mapsEachTime) return this.#takeUnmapped() || hasTaken;
    this.#sendPending();
    for (let head = receiveRing.take(); head >= 0; head = receiveRing.take()) {
      this.#packet(this.#receiveBuffers.word[head]);
      receiveRing.post(head);
      hasTaken = true;
    }
    return hasTaken;
  }

  /** Takes what was received, all of it before any of it is looked at or used again. */
  #takeUnmapped(): boolean {
    const { receiveRing } = this;
    let count = 0;
    for (let head = receiveRing.take(); head >= 0; head = receiveRing.take()) {
      this.#dma.unmap(this.#receiveBuffers, head, RECEIVE_BUFFER_BYTES);
      this.#returned[count++] = head;
    }
    this.#dma.settle();
    this.#sendPending();
    for (let index = 0; index < count; index++) {
      this.#packet(this.#receiveBuffers.word[this.#returned[index]]);
      this.#postReceive(this.#returned[index]);
    }
    return count > 0;
  }

  #unmapSent(slot: number): void {
    this.#dma.unmap(this.#headers, slot, HEADER_BYTES);
    if (slot < this.#dataSlots) this.#dma.unmap(this.#payloads, slot, this.#payloadBytes[slot]);
  }

  #sendPending(): void {
    while (this.#pending.length > 0 && this.#freeControl.length > 0)
      this.#send(this.#pending.shift() as Control);
  }

  #packet(at: number): void {
    const words = this.#words;
    const localPort = words[at + DST_PORT];
    const peerPort = words[at + SRC_PORT];
    const op = words[at + TYPE_OP] >>> 16;
    let link = this.#latest;
    if (link === undefined || link.localPort !== localPort || link.peerPort !== peerPort) {
      link = this.#links.get(keyOf(localPort, peerPort));
      if (link === undefined && op === Op.REQUEST) link = this.#accept(localPort, peerPort);
      if (link === undefined) {
        if (op !== Op.RST) this.#send({ localPort, peerPort, op: Op.RST, flags: 0, fwdCnt: 0 });
        return;
      }
      this.#latest = link;
    }
    link.peerBufAlloc = words[at + BUF_ALLOC];
    link.peerFwdCnt = words[at + FWD_CNT];
    switch (op) {
      case Op.RW:
        this.#data(link, words[at + LEN]);
        return;
      case Op.CREDIT_UPDATE:
        this.events.credited?.(link);
        return;
      case Op.CREDIT_REQUEST:
        this.#tell(link);
        return;
      case Op.REQUEST:
        this.#control(link, Op.RESPONSE, 0);
        link.isOpen = true;
        this.events.opened?.(link);
        return;
      case Op.RESPONSE:
        link.isOpen = true;
        this.events.opened?.(link);
        return;
      case Op.SHUTDOWN:
        this.#shutdown(link, words[at + FLAGS]);
        return;
      case Op.RST:
        this.#forget(link);
        this.events.closed?.(link);
    }
  }

  #accept(localPort: number, peerPort: number): Link {
    const link = new Link(localPort, peerPort);
    this.#links.set(keyOf(localPort, peerPort), link);
    return link;
  }

  #data(link: Link, bytes: number): void {
    link.received = (link.received + bytes) >>> 0;
    // Linux, virtio_transport_stream_do_dequeue: an update once less than a packet's worth of room is known of, and
    // since 6.8 also when the program has read everything: here, when nothing more has come.
    const untold = (link.received - link.told) >>> 0;
    if (this.#bufferBytes - untold < LARGEST_PAYLOAD_BYTES) this.#tell(link);
    else if (this.#tellsWhenEmpty && !link.isUntold) {
      link.isUntold = true;
      this.#untold.push(link);
    }
    this.events.data?.(link, bytes);
  }

  #tellAll(): void {
    for (let link = this.#untold.pop(); link !== undefined; link = this.#untold.pop()) {
      link.isUntold = false;
      // A packet that was sent meanwhile has told it.
      if (link.isOpen && link.told !== link.received) this.#tell(link);
    }
  }

  #tell(link: Link): void {
    link.told = link.received;
    this.#control(link, Op.CREDIT_UPDATE, 0);
  }

  /** Linux: what is shut both ways, with nothing left to read, is answered with RST; else its program closes. */
  #shutdown(link: Link, flags: number): void {
    const before = link.shut;
    link.shut |= flags;
    if (link.shut === Shutdown.BOTH) {
      this.reset(link);
      this.events.closed?.(link);
    } else if (before === 0) this.close(link);
  }

  #forget(link: Link): void {
    link.isOpen = false;
    this.#links.delete(keyOf(link.localPort, link.peerPort));
    if (this.#latest === link) this.#latest = undefined;
  }
}

function keyOf(localPort: number, peerPort: number): number {
  // Local ports are ours and small; the product is exact below 2^53.
  return localPort * 2 ** 32 + peerPort;
}
