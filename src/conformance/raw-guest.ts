/**
 * A guest that a conformance case holds by the packet: memory, rings, a session set up in QEMU's order, packets in and
 * out. It answers nothing by itself; a connection that behaves is `raw-connection.ts`. Must not know the device.
 */
import { describeIotlb } from "../vhost/wire/index.js";
import { F, has, VSOCK_QUEUE } from "../virtio/index.js";
import type { BusBuffer } from "../virtqueue/split-driver-queue.js";
import { describePacket, HEADER_BYTES, HOST_CID, Op, PacketHeader, SocketType } from "../vsock/header.js";
import type { FeatureName, ProtocolFeatureName } from "./case.js";
import type { CaseContext } from "./context.js";
import { RawConnection } from "./raw-connection.js";
import { RawQueue } from "./raw-queue.js";
import { type Block, TestMemory, type TestMemoryOptions } from "./test-memory.js";
import { type TracedSession, USUAL_PROTOCOL_FEATURES } from "./traced-session.js";

export interface RawGuestOptions extends Pick<TestMemoryOptions, "slots"> {
  /** Features of the driver beside VERSION_1, as far as they are offered. Default none. */
  readonly features?: readonly FeatureName[];
  /** Features of every usual guest that this one does not acknowledge. */
  readonly omits?: readonly FeatureName[];
  readonly protocolFeatures?: readonly ProtocolFeatureName[];
  /** Addresses are I/O virtual and the front-end serves MISSes. Needs ACCESS_PLATFORM, BACKEND_REQ and REPLY_ACK. */
  readonly translated?: boolean;
  /** Memory goes by SET_MEM_TABLE (default), or region by region (CONFIGURE_MEM_SLOTS). */
  readonly memoryBy?: "table" | "slots";
  /** Descriptors a queue; default 64. */
  readonly queueSize?: number;
  /** Default 2: the event queue stays with the front-end, as in QEMU. */
  readonly queues?: 2 | 3;
  /** Where the rings begin. Anything but 0 is a driver that has been running. */
  readonly firstIndex?: number;
  /** The sizes of the buffers of one receive chain; default one of 4096. */
  readonly receiveSizes?: readonly number[];
  /** How many receive chains the device has; default as many as there is room for. 0: none until `post`. */
  readonly receiveChains?: number;
  /** Chains of more than one buffer go into indirect tables of so many entries. Needs INDIRECT_DESC. */
  readonly tableEntries?: number;
  /** Set everything up but start no ring: the case does it, with `startRing`. */
  readonly isStopped?: boolean;
}

/** A packet that came from the device. */
export interface Packet {
  readonly header: PacketHeader;
  readonly payload: Uint8Array;
  /** What the used ring said. */
  readonly usedLength: number;
}

export type PacketFields = Partial<PacketHeader>;

interface ReceiveChain {
  readonly pieces: readonly Block[];
  /** What the device is told, if not of each piece. */
  readonly buffers?: readonly BusBuffer[];
}
type TransmitChain = readonly Block[];

const DEFAULT_QUEUE_SIZE = 64;
const EVENT_QUEUE_SIZE = 8;
const BUF_ALLOC = 262_144;

export class RawGuest {
  readonly memory: TestMemory;
  rx: RawQueue<ReceiveChain>;
  tx: RawQueue<TransmitChain>;
  event: RawQueue<Block> | undefined;
  /** Packets that no connection took, in order. */
  readonly inbox: Packet[] = [];
  /** What SET_FEATURES said. */
  acknowledged = 0n;
  cid = 0;
  session: TracedSession;
  /** False: what comes in takes its buffer out of the ring for good. */
  repostsBuffers = true;
  /** The used lengths of transmit chains, in order. */
  readonly transmitted: number[] = [];

  readonly #context: CaseContext;
  readonly #options: RawGuestOptions;
  readonly #connections = new Set<RawConnection>();
  #nextPort = 1024;

  /** Use `context.guest(...)`. */
  constructor(context: CaseContext, session: TracedSession, offered: bigint, options: RawGuestOptions) {
    this.#context = context;
    this.#options = options;
    this.session = session;
    this.memory = new TestMemory(options, context.evidence);
    this.#negotiate(offered);
    this.rx = this.#makeQueue(VSOCK_QUEUE.rx);
    this.tx = this.#makeQueue(VSOCK_QUEUE.tx);
    this.event = options.queues === 3 ? this.#makeQueue(VSOCK_QUEUE.event, EVENT_QUEUE_SIZE) : undefined;
  }

  #makeQueue<Owner>(index: number, size = this.#options.queueSize ?? DEFAULT_QUEUE_SIZE): RawQueue<Owner> {
    const { tableEntries = 0, firstIndex = 0 } = this.#options;
    return new RawQueue<Owner>(this.memory, {
      index,
      size,
      packed: has(this.acknowledged, F.RING_PACKED),
      eventIdx: has(this.acknowledged, F.EVENT_IDX),
      inOrder: has(this.acknowledged, F.IN_ORDER),
      tableEntries: has(this.acknowledged, F.INDIRECT_DESC) ? tableEntries : 0,
      firstIndex,
    });
  }

  /** A new driver: rings in other memory, from the start. The device has been stopped. */
  renewRings(): void {
    for (const queue of this.queues) queue.close();
    this.rx = this.#makeQueue(VSOCK_QUEUE.rx);
    this.tx = this.#makeQueue(VSOCK_QUEUE.tx);
    if (this.event !== undefined) this.event = this.#makeQueue(VSOCK_QUEUE.event, EVENT_QUEUE_SIZE);
    this.#connections.clear();
    this.inbox.length = 0;
  }

  /** The queues that the device gets, by number. */
  get queues(): readonly RawQueue<unknown>[] {
    return this.event === undefined ? [this.rx, this.tx] : [this.rx, this.tx, this.event];
  }

  #negotiate(offered: bigint): void {
    const { session } = this;
    const { features = [], translated = false } = this.#options;
    if (translated) {
      session.onMiss = this.#servesMisses(session);
      session.openBackendChannel();
    }
    this.cid = this.#context.cidOf(session);
    const wanted = translated ? ([...features, "ACCESS_PLATFORM"] as const) : features;
    this.acknowledged = session.acknowledge(offered, wanted, this.#options.omits);
  }

  #servesMisses(session: TracedSession): TracedSession["onMiss"] {
    const { domain } = this.memory;
    domain?.serve(session);
    return (miss) => {
      this.#context.evidence.add("back-end", `BACKEND_IOTLB_MSG ${describeIotlb(miss)}`);
      return domain?.miss(miss) ?? false;
    };
  }

  /** Memory, rings, enable: the device may begin. */
  start(): void {
    this.startWith(() => this.shareMemory());
  }

  /** The same with memory that is shared in the case's own way. */
  startWith(share: () => void): void {
    share();
    for (const queue of this.queues) this.setUpRing(queue);
    for (const queue of this.queues) this.enableRing(queue, true);
    const { domain } = this.memory;
    if (domain !== undefined) for (const queue of this.queues) domain.push(queue.addresses.used);
    this.begin();
  }

  shareMemory(): void {
    const regions = this.memory.regions();
    if (this.#options.memoryBy === "slots") for (const region of regions) this.session.addMemReg(region);
    else this.session.setMemTable(regions);
  }

  /** NUM, BASE, ADDR, ERR, CALL, KICK; the ring is started and not yet enabled. */
  setUpRing(queue: RawQueue<unknown>, base: number = this.#firstBase(queue)): void {
    this.session.setUpRing({
      index: queue.index,
      size: queue.size,
      base,
      addresses: this.addressesOf(queue),
      kickFd: queue.hasKickFd ? queue.kickFd : undefined,
      callFd: queue.hasCallFd ? queue.callFd : undefined,
      errorFd: queue.errorFd,
    });
  }

  /** As SET_VRING_ADDR says them: user addresses, or I/O virtual ones. */
  addressesOf(queue: RawQueue<unknown>): { desc: bigint; avail: bigint; used: bigint } {
    if (this.memory.domain !== undefined) return queue.addresses;
    const { desc, avail, used } = queue.physical;
    const user = (gpa: number): bigint => this.memory.userOf(gpa);
    return { desc: user(desc), avail: user(avail), used: user(used) };
  }

  #firstBase(queue: RawQueue<unknown>): number {
    // vhost-user, "Vring descriptor indices for packed virtqueues": both at 0, both wrap counters 1.
    return has(this.acknowledged, F.RING_PACKED) ? 0x8000_8000 : queue.firstIndex;
  }

  /** Waits until it is so, as QEMU does (`vhost_user_set_vring_enable`). */
  enableRing({ index }: RawQueue<unknown>, enabled: boolean): void {
    const { session } = this;
    // Without bit 30 rings are enabled from the start, and there is no such message: a question that is answered behind
    // those before it is all that can be waited for.
    if (!has(this.acknowledged, F.PROTOCOL_FEATURES)) {
      session.getFeatures();
      return;
    }
    const { needReply } = session;
    session.needReply = true;
    session.setVringEnable(index, enabled);
    session.needReply = needReply;
    if (!session.negotiated("REPLY_ACK")) session.getFeatures();
  }

  /** The driver begins: asks for signals and gives the device its buffers. */
  begin(): void {
    for (const queue of this.queues) queue.begin();
    const { receiveSizes = [4096], receiveChains, tableEntries = 0 } = this.#options;
    const isInTable = tableEntries > 0 && receiveSizes.length > 1;
    const room = isInTable ? this.rx.size : Math.floor(this.rx.size / receiveSizes.length);
    this.post(receiveChains ?? room);
    this.#postEvents();
  }

  /** Gives the device so many receive chains more. */
  post(chains: number, sizes = this.#options.receiveSizes ?? [4096]): void {
    for (let i = 0; i < chains; i++)
      this.#give({ pieces: sizes.map((bytes) => this.memory.allocate(bytes)) });
    this.rx.flush();
  }

  #give(chain: ReceiveChain): void {
    for (const { view } of chain.pieces) view.fill(0xa5);
    const isAdded = this.rx.add([], chain.buffers ?? chain.pieces.map(asBuffer), chain);
    this.#context.expect.that(isAdded, "the case does not overfill its receive ring");
  }

  #postEvents(): void {
    const { event } = this;
    if (event === undefined) return;
    for (let i = 0; i < event.size; i++) {
      const block = this.memory.allocate(4);
      event.add([], [asBuffer(block)], block);
    }
    event.flush();
  }

  // ---- packets -------------------------------------------------------------------------------------------------

  /** The next port of the guest's that nobody uses. */
  port(): number {
    return this.#nextPort++;
  }

  header(fields: PacketFields): PacketHeader {
    return Object.assign(new PacketHeader(), {
      srcCid: this.cid,
      dstCid: HOST_CID,
      type: SocketType.STREAM,
      bufAlloc: BUF_ALLOC,
      ...fields,
    });
  }

  /**
   * Puts a packet into the transmit ring and kicks if the device wants it. `cut`: the sizes of its buffers; by default
   * a header, then the payload. Waits for nothing; throws if the ring is full.
   */
  send(fields: PacketFields, payload: Uint8Array = new Uint8Array(0), cut?: readonly number[]): void {
    this.put(fields, payload, cut);
    this.tx.flush();
  }

  /** The same without showing it to the device. */
  put(fields: PacketFields, payload: Uint8Array = new Uint8Array(0), cut?: readonly number[]): void {
    const header = this.header({ len: payload.length, ...fields });
    const bytes = new Uint8Array(HEADER_BYTES + payload.length);
    header.write(new DataView(bytes.buffer), 0);
    bytes.set(payload, HEADER_BYTES);
    const sizes = cut ?? (payload.length === 0 ? [HEADER_BYTES] : [HEADER_BYTES, payload.length]);
    let at = 0;
    const pieces = sizes.map((size) => {
      const block = this.memory.allocate(size);
      block.view.set(bytes.subarray(at, at + size));
      at += size;
      return block;
    });
    this.#context.evidence.add("guest", describePacket(header));
    const isAdded = this.tx.add(pieces.map(asBuffer), [], pieces);
    this.#context.expect.that(isAdded, "the device returns transmit buffers", "the transmit ring is full");
  }

  /** Writes a packet to the start of a block, and returns how long it is. */
  write(header: PacketHeader, payload: Uint8Array, block: Block): number {
    header.write(new DataView(block.view.buffer, block.view.byteOffset), 0);
    block.view.set(payload, HEADER_BYTES);
    this.#context.evidence.add("guest", `${describePacket(header)}, at 0x${block.bus.toString(16)}`);
    return HEADER_BYTES + payload.length;
  }

  /** Gives the device a transmit chain of buffers of the case's choice. */
  offer(buffers: readonly BusBuffer[]): void {
    const isAdded = this.tx.add(buffers, [], []);
    this.#context.expect.that(isAdded, "the case does not overfill its transmit ring");
    this.tx.flush();
  }

  /** Sends a packet of data out of a block of the case's choice, header and payload in one buffer. */
  async sendFrom(block: Block, connection: RawConnection, payload: Uint8Array): Promise<void> {
    await this.room();
    const length = this.write(connection.headerFor(Op.RW, payload.length), payload, block);
    this.offer([{ address: block.bus, length }]);
  }

  /**
   * Puts a packet of data into the transmit ring without showing it to the device; `change` may rewrite its first
   * descriptor. In one buffer if `isJoined`, else as header and payload.
   */
  putPacket(
    connection: RawConnection,
    payload: Uint8Array,
    change?: (head: number) => void,
    isJoined = false,
  ): void {
    const block = this.memory.allocate(HEADER_BYTES + payload.length);
    this.write(connection.headerFor(Op.RW, payload.length), payload, block);
    const { bus: address } = block;
    const cut = [
      { address, length: HEADER_BYTES },
      { address: address + BigInt(HEADER_BYTES), length: payload.length },
    ];
    const head = this.tx.ring.add(isJoined ? [asBuffer(block)] : cut, []);
    this.#context.expect.that(head >= 0, "the case does not overfill its transmit ring");
    change?.(head);
  }

  /** Gives the device a receive chain of blocks of the case's choice. */
  postAt(...pieces: readonly Block[]): void {
    this.#give({ pieces });
    this.rx.flush();
  }

  /** Tells the device of `buffers`, which lead to `pieces`. */
  postAs(buffers: readonly BusBuffer[], pieces: readonly Block[]): void {
    this.#give({ pieces, buffers });
    this.rx.flush();
  }

  /** Waits until so many descriptors of the transmit ring are free. */
  async room(descriptors = 2): Promise<void> {
    await this.#context.until(
      () => this.tx.ring.freeDescriptors >= descriptors,
      "the device returns transmit buffers",
    );
  }

  /** Waits until the device has returned everything that it was sent. */
  async sent(): Promise<void> {
    await this.#context.until(() => this.tx.ring.inFlight === 0, "the device returns every transmit buffer");
  }

  /** The next packet that no connection takes and that fits; others stay. */
  async receive(
    what: string,
    fits: (header: PacketHeader) => boolean = () => true,
    withinMs?: number,
  ): Promise<Packet> {
    const at = (): number => this.inbox.findIndex(({ header }) => fits(header));
    await this.#context.until(() => at() >= 0, what, withinMs);
    return this.inbox.splice(at(), 1)[0];
  }

  // ---- connections ---------------------------------------------------------------------------------------------

  /** Connects to a port of the host and waits for RESPONSE. */
  async connect(hostPort: number, fields: PacketFields = {}): Promise<RawConnection> {
    const connection = this.open(this.port(), hostPort, fields);
    connection.send(Op.REQUEST);
    await this.#context.until(
      () => connection.isOpen || connection.wasReset,
      `the device answers the guest's request to port ${hostPort}`,
    );
    this.#context.expect.that(!connection.wasReset, `port ${hostPort} is reached`, "a RST");
    return connection;
  }

  /** Takes a connection of the host to one of the guest's ports: waits for REQUEST and answers RESPONSE. */
  async accept(guestPort: number, fields: PacketFields = {}): Promise<RawConnection> {
    const { header } = await this.receive(
      `a REQUEST to port ${guestPort} of the guest`,
      ({ op, dstPort }) => op === Op.REQUEST && dstPort === guestPort,
    );
    const connection = this.open(guestPort, header.srcPort, fields);
    connection.note(header);
    connection.isOpen = true;
    connection.send(Op.RESPONSE);
    return connection;
  }

  /** A connection's bookkeeping, without a packet: from now on its packets go there. */
  open(guestPort: number, hostPort: number, fields: PacketFields = {}): RawConnection {
    const connection = new RawConnection(this, this.#context.until, guestPort, hostPort, fields);
    this.#connections.add(connection);
    return connection;
  }

  /** From now on its packets go to the inbox. */
  forget(connection: RawConnection): void {
    this.#connections.delete(connection);
  }

  // ---- what the device does ------------------------------------------------------------------------------------

  /** Takes what the device has returned. `context.until` does it all the time. */
  poll(): void {
    for (const { owner, usedLength } of this.tx.collect()) {
      this.transmitted.push(usedLength);
      for (const block of owner) this.memory.free(block);
    }
    for (const { owner, usedLength } of this.rx.collect()) this.#received(owner, usedLength);
    for (const queue of this.queues) {
      const { failure } = queue.ring;
      if (failure !== undefined)
        this.#context.expect.fail("the device keeps to the used ring", failure.message);
    }
    this.rx.flush();
  }

  #received(chain: ReceiveChain, usedLength: number): void {
    const bytes = Buffer.concat(chain.pieces.map(({ view }) => view));
    if (this.repostsBuffers) this.#give(chain);
    const { expect, evidence } = this.#context;
    if (usedLength < HEADER_BYTES || usedLength > bytes.length)
      expect.fail(
        `a receive buffer is used with 44 to ${bytes.length} bytes (a packet)`,
        `used length ${usedLength}`,
      );
    const header = new PacketHeader();
    header.read(new DataView(bytes.buffer, bytes.byteOffset), 0);
    evidence.add("device", describePacket(header));
    if (header.len > usedLength - HEADER_BYTES)
      expect.fail("a packet is as long as it says", `len ${header.len}, used length ${usedLength}`);
    const payload = bytes.subarray(HEADER_BYTES, HEADER_BYTES + header.len);
    for (const connection of this.#connections) {
      if (!connection.isFor(header)) continue;
      connection.packet(header, payload);
      return;
    }
    this.inbox.push({ header, payload, usedLength });
  }

  // ---- stop and go ---------------------------------------------------------------------------------------------

  /** Stops the rings as QEMU does, and returns where they stand. */
  stop(): number[] {
    for (const queue of this.queues) this.enableRing(queue, false);
    const bases = this.queues.map(({ index }) => this.session.getVringBase(index));
    // The last signals may have been taken before the stop.
    for (const queue of this.queues) queue.look();
    return bases;
  }

  /** Starts them again at `bases`. */
  resume(bases: readonly number[]): void {
    for (const [index, queue] of this.queues.entries()) this.setUpRing(queue, bases[index]);
    for (const queue of this.queues) this.enableRing(queue, true);
  }

  /** A VMM that starts a device kicks its rings: it may have missed one. */
  kickAll(): void {
    for (const queue of this.queues) queue.kick();
  }

  close(): void {
    this.memory.close();
    for (const queue of this.queues) queue.close();
  }
}

/** What a guest takes of the protocol, by what it is to do. */
export function protocolFeaturesFor(options: RawGuestOptions): readonly ProtocolFeatureName[] {
  if (options.protocolFeatures !== undefined) return options.protocolFeatures;
  const more: ProtocolFeatureName[] = [];
  if (options.translated === true) more.push("BACKEND_REQ");
  if (options.memoryBy === "slots") more.push("CONFIGURE_MEM_SLOTS");
  return [...USUAL_PROTOCOL_FEATURES, ...more];
}

function asBuffer({ bus, bytes }: Block): BusBuffer {
  return { address: bus, length: bytes };
}
