/**
 * A driver for one connection whose memory is cut into many regions, and whose buffers lie in all of them: each header,
 * payload and receive buffer in another region than the one before. Otherwise as the measuring driver (`driver.ts`).
 */
import { GuestRam } from "../src/guest/guest-ram.js";
import { EPOLLET, EPOLLIN, Epoll } from "../src/linux/epoll.js";
import { PAGE_BYTES, view } from "../src/linux/mapping.js";
import { builtinVmm } from "../src/profiles/builtin.js";
import { F, maskOf } from "../src/virtio/index.js";
import { DescFlag } from "../src/virtqueue/layout.js";
import { FrontEnd } from "../src/vmm/front-end.js";
import { machineFor } from "../src/vmm/virtual-machine.js";
import { HEADER_BYTES, HEADER_LAYOUT, HOST_CID, Op, Shutdown, SocketType } from "../src/vsock/header.js";
import type { Outcome, Sending } from "./commands.js";
import { PreparedRing } from "./prepared-ring.js";
import { monotonicNs, type Progress } from "./progress.js";

const RING_SIZE = 256;
const DATA_SLOTS = 112;
const CONTROL_SLOTS = RING_SIZE - 2 * DATA_SLOTS;
const RECEIVE_BUFFER_BYTES = 3776;
const PAYLOAD_BYTES = 4096;
const BUFFER_BYTES = 256 * 1024;
const GUEST_PORT = 1024;
const PAGES = DATA_SLOTS * 2 + CONTROL_SLOTS + RING_SIZE;
/** Between two regions, so that they do not touch. */
const HOLE_BYTES = 2 ** 20;
const WAIT_MS = 20;
const STALL_MS = 2000;

const word = (name: (typeof HEADER_LAYOUT)[number]["name"]): number =>
  (HEADER_LAYOUT.find((field) => field.name === name)?.offset ?? 0) >> 2;
const SRC_CID = word("srcCid");
const DST_CID = word("dstCid");
const SRC_PORT = word("srcPort");
const DST_PORT = word("dstPort");
const LEN = word("len");
const TYPE_OP = word("type");
const FLAGS = word("flags");
const BUF_ALLOC = word("bufAlloc");
const FWD_CNT = word("fwdCnt");

export class RegionDriver {
  readonly #ram: GuestRam;
  readonly #regions: number;
  readonly #frontEnd: FrontEnd;
  readonly #receive: PreparedRing;
  readonly #transmit: PreparedRing;
  readonly #epoll = new Epoll();
  /** The headers of data slots and control slots, and the receive buffers, as words. */
  readonly #headers: readonly Uint32Array[];
  readonly #received: readonly Uint32Array[];
  readonly #freeData: number[] = [];
  readonly #freeControl: number[] = [];
  #pagesGiven = 0;

  #port = GUEST_PORT;
  #peerPort = 0;
  #isOpen = false;
  #sent = 0;
  #peerBufAlloc = 0;
  #peerFwdCnt = 0;
  #got = 0;
  #told = 0;

  constructor(socketPath: string, regions: number) {
    this.#regions = regions;
    // The rings lie at the start of the first.
    const ringPages = 2 * Math.ceil(PreparedRing.bytesFor(RING_SIZE) / PAGE_BYTES);
    const bytes = (1 + ringPages + Math.ceil(PAGES / regions)) * PAGE_BYTES;
    const slots = Array.from({ length: regions }, (_, index) => ({
      gpa: index * (bytes + HOLE_BYTES),
      bytes,
    }));
    this.#ram = new GuestRam({ slots });
    this.#frontEnd = new FrontEnd({
      socket: socketPath,
      profile: builtinVmm("qemu-7.2"),
      machine: machineFor("direct"),
      ram: this.#ram,
      viommu: undefined,
    });
    const features = this.#frontEnd.initialize() & maskOf(F.VERSION_1, F.EVENT_IDX);
    const cid = this.#frontEnd.readCid();
    const ring = (index: number): PreparedRing => {
      const gpa = (1 + (index * ringPages) / 2) * PAGE_BYTES;
      return new PreparedRing({ bus: BigInt(gpa), host: this.#ram.hostOf(gpa) }, RING_SIZE, true);
    };
    this.#receive = ring(0);
    this.#transmit = ring(1);
    this.#headers = Array.from({ length: DATA_SLOTS + CONTROL_SLOTS }, (_, slot) =>
      this.#prepareSlot(slot, cid),
    );
    this.#received = Array.from({ length: RING_SIZE }, (_, index) =>
      this.#place(this.#receive, index, RECEIVE_BUFFER_BYTES, DescFlag.WRITE),
    );
    this.#frontEnd.start(features, [this.#receive, this.#transmit]);
    for (let index = 0; index < RING_SIZE; index++) this.#receive.post(index);
    this.#receive.publish();
    this.#epoll.add(this.#receive.callFd, EPOLLIN | EPOLLET, 0);
    this.#epoll.add(this.#transmit.callFd, EPOLLIN | EPOLLET, 1);
  }

  /** Gives the next page, in the next region, to a descriptor. */
  #place(ring: PreparedRing, descriptor: number, bytes: number, flags: number): Uint32Array {
    const region = this.#pagesGiven % this.#regions;
    const page = Math.floor(this.#pagesGiven / this.#regions);
    this.#pagesGiven++;
    const slot = this.#ram.slots[region];
    // From the end: the rings are at the beginning.
    const gpa = slot.gpa + slot.bytes - (page + 1) * PAGE_BYTES;
    ring.rings.setDescriptor(descriptor, gpa >>> 0, Math.floor(gpa / 2 ** 32), bytes, flags);
    return new Uint32Array(view(this.#ram.hostOf(gpa), PAGE_BYTES)).fill(0);
  }

  #headOf(slot: number): number {
    return slot < DATA_SLOTS ? 2 * slot : slot + DATA_SLOTS;
  }

  #prepareSlot(slot: number, cid: number): Uint32Array {
    const head = this.#headOf(slot);
    const words = this.#place(this.#transmit, head, HEADER_BYTES, 0);
    words[SRC_CID] = cid;
    words[DST_CID] = HOST_CID;
    words[BUF_ALLOC] = BUFFER_BYTES;
    if (slot < DATA_SLOTS) {
      this.#place(this.#transmit, head + 1, PAYLOAD_BYTES, 0);
      this.#transmit.rings.link(head, head + 1);
      this.#freeData.push(slot);
    } else this.#freeControl.push(slot);
    return words;
  }

  #post(slot: number, op: number, bytes: number, flags = 0): void {
    const words = this.#headers[slot];
    words[SRC_PORT] = this.#port;
    words[DST_PORT] = this.#peerPort;
    words[LEN] = bytes;
    words[TYPE_OP] = SocketType.STREAM | (op << 16);
    words[FLAGS] = flags;
    words[FWD_CNT] = this.#got;
    this.#told = this.#got;
    this.#transmit.post(this.#headOf(slot));
  }

  #control(op: number, flags = 0): void {
    const slot = this.#freeControl.pop();
    if (slot === undefined) throw new Error("the device returns no control packets");
    this.#post(slot, op, 0, flags);
  }

  get #credit(): number {
    return this.#peerBufAlloc - ((this.#sent - this.#peerFwdCnt) >>> 0);
  }

  /** Opens the one connection. */
  open(port: number): void {
    this.#port++;
    this.#peerPort = port;
    this.#sent = 0;
    this.#got = 0;
    this.#control(Op.REQUEST);
    while (!this.#isOpen) this.#turnOrStall(false);
  }

  /** Sends messages of 4 KiB on it. */
  send({ durationMs }: Sending, progress: Progress): Outcome {
    let total = 0;
    const beganNs = monotonicNs();
    const endNs = beganNs + durationMs * 1e6;
    while (monotonicNs() < endNs) {
      while (this.#freeData.length > 0 && this.#credit >= PAYLOAD_BYTES) {
        this.#post(this.#freeData.pop() as number, Op.RW, PAYLOAD_BYTES);
        this.#sent = (this.#sent + PAYLOAD_BYTES) >>> 0;
        total += PAYLOAD_BYTES;
      }
      this.#turnOrStall(this.#freeData.length === 0);
    }
    progress.end(total);
    while (this.#transmit.inFlight > 0) this.#turnOrStall(true);
    return { beganNs, endedNs: monotonicNs(), count: total };
  }

  /** Takes what comes on the connection that the host opens, until all is there. */
  receive(progress: Progress): Outcome {
    this.#got = 0;
    this.#sent = 0;
    let total = 0;
    let endedNs = 0;
    let looks = 0;
    for (let before = 0; total < progress.totalBytes; before = this.#got) {
      this.#turn(false, WAIT_MS);
      const bytes = (this.#got - before) >>> 0;
      if (bytes > 0) endedNs = monotonicNs();
      looks = bytes > 0 ? 0 : looks + 1;
      total += bytes;
      if (looks * WAIT_MS > STALL_MS && progress.isOver)
        throw new Error(`${total} of ${progress.totalBytes} bytes came, and no more do`);
    }
    return { beganNs: 0, endedNs, count: total };
  }

  hangUp(): void {
    if (this.#isOpen) this.#control(Op.RST);
    this.#isOpen = false;
    while (this.#transmit.inFlight > 0) this.#turnOrStall(true);
  }

  #turnOrStall(isFull: boolean): void {
    if (!this.#turn(isFull, STALL_MS) && !this.#take())
      throw new Error(`nothing has come for ${STALL_MS} ms`);
  }

  /** As `MeasuringDriver.turn`. */
  #turn(isFull: boolean, timeoutMs: number): boolean {
    const hasTaken = this.#take();
    if (!hasTaken && this.#isOpen && this.#told !== this.#got) this.#control(Op.CREDIT_UPDATE);
    this.#receive.publish();
    this.#transmit.publish();
    if (hasTaken) return true;
    const { inFlight } = this.#transmit;
    if (!this.#receive.arm(0) || (isFull && !this.#transmit.arm(inFlight >> 1))) return true;
    return this.#epoll.wait(timeoutMs) > 0;
  }

  #take(): boolean {
    let hasTaken = false;
    for (let head = this.#transmit.take(); head >= 0; head = this.#transmit.take()) {
      if (head < 2 * DATA_SLOTS) this.#freeData.push(head >> 1);
      else this.#freeControl.push(head - DATA_SLOTS);
      hasTaken = true;
    }
    for (let head = this.#receive.take(); head >= 0; head = this.#receive.take()) {
      this.#packet(this.#received[head]);
      this.#receive.post(head);
      hasTaken = true;
    }
    return hasTaken;
  }

  #packet(words: Uint32Array): void {
    const op = words[TYPE_OP] >>> 16;
    this.#peerBufAlloc = words[BUF_ALLOC];
    this.#peerFwdCnt = words[FWD_CNT];
    switch (op) {
      case Op.RW:
        this.#got = (this.#got + words[LEN]) >>> 0;
        if (BUFFER_BYTES - ((this.#got - this.#told) >>> 0) < 2 ** 16) this.#control(Op.CREDIT_UPDATE);
        return;
      case Op.REQUEST:
        this.#port = words[DST_PORT];
        this.#peerPort = words[SRC_PORT];
        this.#isOpen = true;
        this.#control(Op.RESPONSE);
        return;
      case Op.RESPONSE:
        this.#isOpen = true;
        return;
      case Op.CREDIT_REQUEST:
        this.#control(Op.CREDIT_UPDATE);
        return;
      case Op.SHUTDOWN:
        this.#control(Op.SHUTDOWN, Shutdown.BOTH);
        return;
      case Op.RST:
        this.#isOpen = false;
    }
  }
}
