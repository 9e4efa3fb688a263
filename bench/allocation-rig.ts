/**
 * For the check that the data path allocates nothing: a whole device (session, rings, switch, host sockets) and a driver
 * with prepared rings, in one thread that turns the device's loop itself. The driver and the host's end allocate nothing
 * per packet either, or one could not tell whose it is.
 */
import { closeSync, rmSync } from "node:fs";
import { vmConfig } from "../src/device/config/vm-config.js";
import { VmDevice } from "../src/device/vm-device.js";
import { createPlatform } from "../src/guest/platform.js";
import { EventLoop } from "../src/linux/event-loop.js";
import { view } from "../src/linux/mapping.js";
import { Timers } from "../src/linux/timers.js";
import { acceptUnix, listenUnix, socketPair } from "../src/linux/unix-socket.js";
import { silentLogger } from "../src/log/logger.js";
import { builtinVmm } from "../src/profiles/builtin.js";
import type { VmmProfile } from "../src/profiles/vmm-profile.js";
import { F, mask, maskOf } from "../src/virtio/index.js";
import { DescFlag } from "../src/virtqueue/layout.js";
import { FrontEnd } from "../src/vmm/front-end.js";
import { machineFor } from "../src/vmm/virtual-machine.js";
import { HEADER_BYTES, HEADER_LAYOUT, HOST_CID, Op, SocketType } from "../src/vsock/header.js";
import { readBytes, writeBytes } from "./bare-socket.js";
import { PreparedPackedRing } from "./prepared-packed-ring.js";
import { PreparedRing } from "./prepared-ring.js";

const RING_SIZE = 256;
const PAGE = 4096;
/** Where memory lies in large guests, and where Linux hands out I/O addresses: neither fits into 31 bits. */
const GPA = 5 * 2 ** 30;
const IOVA = 0xf000_0000;
const RAM_BYTES = 16 * 2 ** 20;
/** As Linux posts them. */
const RECEIVE_BUFFER_BYTES = 3776;
/** Of a packet to the host: its page has room for it and the header. */
export const SENT_BYTES = 4032;
/** Of a packet to the guest: what fits into one receive buffer beside the header. */
export const RECEIVED_BYTES = RECEIVE_BUFFER_BYTES - HEADER_BYTES;
const BUFFER_BYTES = 256 * 1024;
const HOST_PORT = 5000;
const GUEST_PORT = 1024;
const IDLE_TURNS = 8;
const MOST_IDLE_TURNS = 10_000;

const word = (name: (typeof HEADER_LAYOUT)[number]["name"]): number =>
  (HEADER_LAYOUT.find((field) => field.name === name)?.offset ?? 0) >> 2;
const SRC_CID = word("srcCid");
const DST_CID = word("dstCid");
const SRC_PORT = word("srcPort");
const DST_PORT = word("dstPort");
const LEN = word("len");
const TYPE_OP = word("type");
const BUF_ALLOC = word("bufAlloc");
const FWD_CNT = word("fwdCnt");

export interface AllocationSetting {
  /** A vIOMMU stands in front of the device. */
  readonly translated: boolean;
  /** The rings are packed ones. */
  readonly packed: boolean;
  /** The front-end keeps inflight memory. */
  readonly inflight: boolean;
}

/** QEMU, with `packed=on` or without. */
function qemu(packed: boolean): VmmProfile {
  const profile = builtinVmm("qemu-7.2");
  const { offer } = profile;
  return packed ? { ...profile, offer: { ...offer, own: offer.own | mask(F.RING_PACKED) } } : profile;
}

export class AllocationRig {
  /** Its clock stands still, but for `passTime`: no timer of the set-up runs while something is measured. */
  readonly #loop = new EventLoop(undefined, new Timers(() => this.#nowMs));
  #nowMs = 0;
  readonly #device: VmDevice;
  readonly #frontEnd: FrontEnd;
  readonly #receive: PreparedRing | PreparedPackedRing;
  readonly #transmit: PreparedRing | PreparedPackedRing;
  /** The page of each transmit slot, and of each receive buffer, as words. */
  readonly #sent: Uint32Array;
  readonly #received: Uint32Array;
  readonly #cid: number;
  readonly #listener: number;
  readonly #udsPath: string;
  readonly #host: number;

  #isOpen = false;
  #sentBytes = 0;
  #deviceBufAlloc = 0;
  #deviceFwdCnt = 0;
  #receivedBytes = 0;
  #toldBytes = 0;

  /** `udsPath`: a place for the host's sockets. Behind a vIOMMU each page is mapped by itself, to the address it has. */
  constructor(udsPath: string, { translated, packed, inflight }: AllocationSetting) {
    this.#udsPath = udsPath;
    this.#listener = listenUnix(`${udsPath}_${HOST_PORT}`);
    const [ours, theirs] = socketPair();
    const loop = this.#loop;
    this.#device = new VmDevice({
      loop,
      config: vmConfig({ socketPath: undefined, udsPath }),
      vmm: { fd: theirs, listening: false },
      hybridFd: listenUnix(udsPath),
      log: silentLogger,
      finished: () => {},
    });
    const kind = translated ? "passthrough" : "direct";
    const { ram, viommu } = createPlatform({
      kind,
      slots: [{ gpa: translated ? IOVA : GPA, bytes: RAM_BYTES }],
    });
    this.#frontEnd = new FrontEnd({
      socket: ours,
      profile: qemu(packed),
      machine: machineFor(kind),
      ram,
      viommu,
      session: { pump: () => void loop.turn(0) },
    });
    const wanted =
      maskOf(F.VERSION_1, F.EVENT_IDX) |
      (translated ? mask(F.ACCESS_PLATFORM) : 0n) |
      (packed ? mask(F.RING_PACKED) : 0n);
    const features = this.#frontEnd.initialize() & wanted;
    this.#cid = this.#frontEnd.readCid();
    const ring = (): PreparedRing | PreparedPackedRing => {
      const kindOfRing = packed ? PreparedPackedRing : PreparedRing;
      const { gpa, host } = ram.allocate(kindOfRing.bytesFor(RING_SIZE));
      return new kindOfRing({ bus: BigInt(gpa), host }, RING_SIZE, true);
    };
    this.#receive = ring();
    this.#transmit = ring();
    const pages = (ring: PreparedRing | PreparedPackedRing, bytes: number, flags: number): Uint32Array => {
      const block = ram.allocate(RING_SIZE * PAGE);
      for (let slot = 0; slot < RING_SIZE; slot++)
        ring.setDescriptor(
          slot,
          (block.gpa + slot * PAGE) >>> 0,
          Math.floor(block.gpa / 2 ** 32),
          bytes,
          flags,
        );
      return new Uint32Array(view(block.host, block.bytes)).fill(0);
    };
    this.#received = pages(this.#receive, RECEIVE_BUFFER_BYTES, DescFlag.WRITE);
    this.#sent = pages(this.#transmit, HEADER_BYTES + SENT_BYTES, 0);
    for (let slot = 0; slot < RING_SIZE; slot++) this.#prepareHeader((slot * PAGE) >> 2);
    if (inflight) this.#keepInflight();
    this.#frontEnd.start(features, [this.#receive, this.#transmit]);
    for (let slot = 0; slot < RING_SIZE; slot++) this.#receive.post(slot);
    this.#receive.publish();
    this.#host = this.#connect();
  }

  #keepInflight(): void {
    const { session } = this.#frontEnd;
    const file = session.getInflightFd(2, RING_SIZE);
    if (file === undefined) throw new Error("the device keeps no inflight memory");
    session.setInflightFd(file, 2, RING_SIZE);
    closeSync(file.fd);
  }

  #prepareHeader(at: number): void {
    const words = this.#sent;
    words[at + SRC_CID] = this.#cid;
    words[at + DST_CID] = HOST_CID;
    words[at + SRC_PORT] = GUEST_PORT;
    words[at + DST_PORT] = HOST_PORT;
    words[at + BUF_ALLOC] = BUFFER_BYTES;
  }

  #connect(): number {
    this.#post(Op.REQUEST, 0);
    while (!this.#isOpen) this.#turn();
    const host = acceptUnix(this.#listener);
    if (host < 0) throw new Error(`accept: ${host}`);
    return host;
  }

  /** IOTLB entries that the device was given. */
  get updates(): number {
    return this.#frontEnd.iotlb?.updates ?? 0;
  }

  /** The guest sends so many packets in all, so many at a time as far as it has credit, and the host reads them. */
  toHost(packets: number, atATime: number): void {
    for (let left = packets; left > 0; left -= atATime) {
      let unsent = atATime;
      for (let missing = atATime * SENT_BYTES; missing > 0; ) {
        for (; unsent > 0 && this.#credit >= SENT_BYTES; unsent--) {
          this.#post(Op.RW, SENT_BYTES);
          this.#sentBytes = (this.#sentBytes + SENT_BYTES) >>> 0;
        }
        this.#turn();
        const bytes = readBytes(this.#host);
        if (bytes > 0) missing -= bytes;
      }
    }
  }

  /** The host sends so many buffers full in all, so many at a time, and the guest takes them. */
  toGuest(packets: number, atATime: number): void {
    const bytes = atATime * RECEIVED_BYTES;
    for (let left = packets; left > 0; left -= atATime) {
      const due = (this.#receivedBytes + bytes) >>> 0;
      const written = writeBytes(this.#host, bytes);
      if (written !== bytes) throw new Error(`the host's socket took ${written} bytes`);
      while (this.#receivedBytes !== due) this.#turn();
      if ((this.#receivedBytes - this.#toldBytes) >>> 0 > BUFFER_BYTES / 4) this.#post(Op.CREDIT_UPDATE, 0);
    }
  }

  /** Lets every timer of the set-up run: questions that were answered are followed up for a while. */
  passTime(): void {
    this.#nowMs += 3_600_000;
    for (let turns = 0; turns < 10; turns++) this.#turn();
    // As the loop itself before it sleeps; forgets delays that nobody waits for.
    this.#loop.timers.msUntilNext();
  }

  get #credit(): number {
    return this.#deviceBufAlloc - ((this.#sentBytes - this.#deviceFwdCnt) >>> 0);
  }

  #post(op: number, bytes: number): void {
    const slot = this.#next;
    this.#next = (slot + 1) % RING_SIZE;
    const at = (slot * PAGE) >> 2;
    const words = this.#sent;
    words[at + LEN] = bytes;
    words[at + TYPE_OP] = SocketType.STREAM | (op << 16);
    words[at + FWD_CNT] = this.#receivedBytes;
    this.#toldBytes = this.#receivedBytes;
    this.#transmit.post(slot);
  }
  #next = 0;

  /** Shows the device what was posted, lets it work once, and takes what it returns. */
  #turn(): void {
    const { inFlight } = this.#transmit;
    this.#transmit.publish();
    this.#receive.publish();
    this.#loop.turn(0);
    for (let slot = this.#transmit.take(); slot >= 0; slot = this.#transmit.take());
    for (let slot = this.#receive.take(); slot >= 0; slot = this.#receive.take()) {
      this.#take((slot * PAGE) >> 2);
      this.#receive.post(slot);
      this.#idle = 0;
    }
    if (inFlight !== this.#transmit.inFlight) this.#idle = 0;
    // Behind a vIOMMU each page is asked for when it is used first.
    if (++this.#idle % IDLE_TURNS === 0) this.#frontEnd.serve();
    if (this.#idle > MOST_IDLE_TURNS) throw new Error("nothing happens any more");
  }
  #idle = 0;

  #take(at: number): void {
    const words = this.#received;
    this.#deviceBufAlloc = words[at + BUF_ALLOC];
    this.#deviceFwdCnt = words[at + FWD_CNT];
    const op = words[at + TYPE_OP] >>> 16;
    if (op === Op.RW) this.#receivedBytes = (this.#receivedBytes + words[at + LEN]) >>> 0;
    else if (op === Op.RESPONSE) this.#isOpen = true;
    else if (op === Op.CREDIT_REQUEST) this.#post(Op.CREDIT_UPDATE, 0);
    else if (op !== Op.CREDIT_UPDATE) throw new Error(`the device sent operation ${op}`);
  }

  close(): void {
    this.#device.close();
    this.#frontEnd.close();
    this.#loop.close();
    closeSync(this.#host);
    closeSync(this.#listener);
    for (const path of [this.#udsPath, `${this.#udsPath}_${HOST_PORT}`]) rmSync(path, { force: true });
  }
}
