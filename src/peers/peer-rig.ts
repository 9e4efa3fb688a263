/**
 * For tests of this folder: a guest's vsock queues in a memfd without any driver around them, devices that
 * differ from Linux in one thing, and a kernel device with a VMM's ioctls. Not part of the product.
 */
import { closeSync } from "node:fs";
import { EventLoop } from "../linux/event-loop.js";
import { createEventfd, signalEventfd } from "../linux/eventfd.js";
import { Timers } from "../linux/timers.js";
import { Access } from "../memory/address.js";
import type { AccessWatcher } from "../memory/watched-space.js";
import { builtinDevice } from "../profiles/builtin.js";
import type { DeviceProfile, ModelledDevice } from "../profiles/device-profile.js";
import type { KernelRequest } from "../vhost/kernel/requests.js";
import type { RingAddresses } from "../vhost/ring-state.js";
import { GPA_BASE, GuestRam, IOVA_BASE, MEMORY_BYTES, QUEUE_SIZE, USER_BASE } from "../vhost/session-rig.js";
import { IOTLB_TYPE, type IotlbMessage } from "../vhost/wire/index.js";
import { F, maskOf, PROTOCOL_F } from "../virtio/index.js";
import type { SplitDriverQueue } from "../virtqueue/split-driver-queue.js";
import { HEADER_BYTES, HOST_CID, Op, PacketHeader, SocketType } from "../vsock/header.js";
import {
  brief,
  copyOf,
  type Fields,
  GUEST_CID,
  GUEST_PORT,
  HOST_PORT,
  PairEndpoints,
  type Sent,
} from "../vsock/switch-rig.js";
import { type CidRegistry, KernelModel } from "./kernel-model.js";
import { modelOf } from "./modelled.js";

export { brief, GPA_BASE, GUEST_CID, IOVA_BASE, MEMORY_BYTES, QUEUE_SIZE, USER_BASE };

export const PAGE = 4096n;
const RECEIVE_AT = 0x80000;
const SEND_AT = 0xc0000;

export const PLAIN_WORD = maskOf(F.VERSION_1, F.EVENT_IDX, F.INDIRECT_DESC);
export const WORD_WITH_33 = PLAIN_WORD | maskOf(F.ACCESS_PLATFORM);

const LINUX = modelOf(builtinDevice("linux-6.12"));
const PROTOCOL_FEATURES = maskOf(
  PROTOCOL_F.MQ,
  PROTOCOL_F.CONFIG,
  PROTOCOL_F.REPLY_ACK,
  PROTOCOL_F.BACKEND_REQ,
);

/** A device like Linux 6.12, but for what is said. */
export function profileOf(
  change: Partial<Omit<ModelledDevice, "iotlb">> & { readonly iotlb?: Partial<ModelledDevice["iotlb"]> } = {},
): DeviceProfile {
  const { iotlb, ...rest } = change;
  return {
    ...builtinDevice("linux-6.12"),
    transports: ["kernel", "vhost-user"],
    behaviour: {
      ...LINUX,
      protocolFeatures: PROTOCOL_FEATURES,
      ...rest,
      iotlb: { ...LINUX.iotlb, ...iotlb },
    },
  };
}

/** How the guest and its VMM say where something is. */
export type Addressing = "untranslated" | "iova";

/** Queues 0 and 1 of a guest whose driver is the test. */
export class RigGuest {
  readonly ram = new GuestRam();
  readonly kicks = [createEventfd(), createEventfd()];
  readonly calls = [createEventfd(), createEventfd()];
  readonly errors = [createEventfd(), createEventfd()];
  readonly received: Sent[] = [];
  #rx: SplitDriverQueue<string> | undefined;
  #tx: SplitDriverQueue<string> | undefined;
  #sent = 0;

  constructor(readonly addressing: Addressing) {}

  get #bufferBase(): bigint {
    return this.addressing === "iova" ? IOVA_BASE : GPA_BASE;
  }

  /** What goes into SET_VRING_ADDR. */
  addresses(index: number): RingAddresses {
    return this.ram.addresses(index, this.addressing === "iova" ? "iova" : "user-rings");
  }

  /** The driver comes up: rings from index 0, receive buffers posted. */
  boot(): void {
    this.#rx = this.ram.driver(0);
    this.#tx = this.ram.driver(1);
    for (let slot = 0; slot < QUEUE_SIZE / 2; slot++) this.#post(slot);
    this.#rx.publish();
    signalEventfd(this.kicks[0]);
  }

  #post(slot: number): void {
    const address = this.#bufferBase + BigInt(RECEIVE_AT + slot * 4096);
    this.#rx?.add([], [{ address, length: 4096 }], String(slot));
  }

  /** Puts a packet into the transmit queue, at an address of its own if one is given, and kicks. */
  send(fields: Fields, payload = "", address?: bigint): void {
    const at = SEND_AT + (this.#sent++ % 32) * 4096;
    const header = Object.assign(new PacketHeader(), {
      srcCid: GUEST_CID,
      dstCid: HOST_CID,
      srcPort: GUEST_PORT,
      dstPort: HOST_PORT,
      type: SocketType.STREAM,
      bufAlloc: 262_144,
      len: payload.length,
      ...fields,
    });
    header.write(new DataView(this.ram.bytes.buffer, this.ram.bytes.byteOffset), at);
    this.ram.bytes.set(new TextEncoder().encode(payload), at + HEADER_BYTES);
    const buffer = {
      address: address ?? this.#bufferBase + BigInt(at),
      length: HEADER_BYTES + payload.length,
    };
    this.#tx?.add([buffer], [], "");
    this.#tx?.publish();
    signalEventfd(this.kicks[1]);
  }

  kick(index: number): void {
    signalEventfd(this.kicks[index]);
  }

  /** Takes what came; transmit buffers are given back to the driver's free list. */
  poll(): void {
    const view = new DataView(this.ram.bytes.buffer, this.ram.bytes.byteOffset);
    while (this.#tx !== undefined && this.#tx.pollUsed() >= 0);
    for (;;) {
      const head = this.#rx?.pollUsed() ?? -1;
      if (head < 0) break;
      const slot = Number(this.#rx?.token(head));
      const header = new PacketHeader();
      header.read(view, RECEIVE_AT + slot * 4096);
      const start = RECEIVE_AT + slot * 4096 + HEADER_BYTES;
      this.received.push({
        header: copyOf(header),
        payload: Buffer.from(this.ram.bytes.subarray(start, start + header.len)),
      });
      this.#post(slot);
      this.#rx?.publish();
      signalEventfd(this.kicks[0]);
    }
  }

  /** What came, in short: "RESPONSE", "RW 5". */
  get story(): string {
    return this.received.map(brief).join(", ");
  }

  close(): void {
    for (const fd of [...this.kicks, ...this.calls, ...this.errors]) closeSync(fd);
    this.ram.close();
  }
}

export interface KernelRigOptions {
  readonly profile?: DeviceProfile;
  readonly addressing?: Addressing;
  readonly watcher?: AccessWatcher;
  readonly cids?: CidRegistry;
}

/** A kernel device and the ioctls of a VMM, one by one or all of them. */
export class KernelRig {
  readonly clock = { ms: 0 };
  readonly loop = new EventLoop(undefined, new Timers(() => this.clock.ms));
  readonly endpoints = new PairEndpoints();
  readonly guest: RigGuest;
  readonly device: KernelModel;

  constructor({ profile = profileOf(), addressing = "untranslated", watcher, cids }: KernelRigOptions = {}) {
    this.guest = new RigGuest(addressing);
    const { loop, endpoints } = this;
    this.device = new KernelModel({
      loop,
      profile,
      endpoints,
      ...(watcher === undefined ? {} : { watcher }),
      ...(cids === undefined ? {} : { cids }),
    });
  }

  /** "ok", or the errno. */
  call(request: KernelRequest): string {
    const result = this.device.ioctl(request);
    return result.ok ? "ok" : result.errno;
  }

  ask(request: KernelRequest): bigint | string {
    const result = this.device.ioctl(request);
    return result.ok ? result.value : result.errno;
  }

  setFeatures(features: bigint): string {
    return this.call({ name: "VHOST_SET_FEATURES", features });
  }

  setRings(): string[] {
    return [0, 1].flatMap((index) => [
      this.call({ name: "VHOST_SET_VRING_NUM", index, num: QUEUE_SIZE }),
      this.call({ name: "VHOST_SET_VRING_BASE", index, num: 0 }),
      this.setAddresses(index),
      this.call({ name: "VHOST_SET_VRING_KICK", index, fd: this.guest.kicks[index] }),
      this.call({ name: "VHOST_SET_VRING_CALL", index, fd: this.guest.calls[index] }),
      this.call({ name: "VHOST_SET_VRING_ERR", index, fd: this.guest.errors[index] }),
    ]);
  }

  setAddresses(index: number, addresses: RingAddresses = this.guest.addresses(index)): string {
    return this.call({ name: "VHOST_SET_VRING_ADDR", index, addresses, log: 0n });
  }

  setMemory(): string {
    const { guestAddress, userAddress, size, fd } = this.guest.ram.region;
    const region = { guestAddress, userAddress, size, fd, fileOffset: 0n };
    return this.call({ name: "VHOST_SET_MEM_TABLE", regions: [region] });
  }

  setRunning(running: boolean): string {
    return this.call({ name: "VHOST_VSOCK_SET_RUNNING", running });
  }

  /** Everything before SET_RUNNING, in crosvm's order. */
  setUp(features: bigint): string[] {
    this.guest.boot();
    return [
      this.call({ name: "VHOST_SET_OWNER" }),
      this.setFeatures(features),
      this.setMemory(),
      ...this.setRings(),
      this.call({ name: "VHOST_VSOCK_SET_GUEST_CID", cid: BigInt(GUEST_CID) }),
    ];
  }

  /** UPDATE for `pages` pages at `iova`, which lead where the guest's memory has them. */
  map(iova: bigint, pages = 1n, perm: number = Access.READ_WRITE): string {
    return this.write({ iova, size: pages * PAGE, userAddress: USER_BASE + (iova - IOVA_BASE), perm });
  }

  unmap(iova: bigint, pages = 1n): string {
    return this.write({ iova, size: pages * PAGE, type: IOTLB_TYPE.INVALIDATE });
  }

  /** The whole memory by one message. */
  mapAll(): string {
    return this.map(IOVA_BASE, BigInt(MEMORY_BYTES) / PAGE);
  }

  /** The whole memory page by page, but for one page. */
  mapAllBut(offset: bigint): void {
    for (let at = 0n; at < BigInt(MEMORY_BYTES); at += PAGE) if (at !== offset) this.map(IOVA_BASE + at);
  }

  write(message: Partial<IotlbMessage>): string {
    const update: IotlbMessage = { iova: 0n, size: PAGE, userAddress: 0n, perm: 3, type: IOTLB_TYPE.UPDATE };
    const result = this.device.write({ ...update, ...message });
    return result.ok ? "ok" : result.errno;
  }

  /** The addresses that the device asked for since the last time, relative to IOVA_BASE, with what for. */
  misses(): string[] {
    const found: string[] = [];
    for (let miss = this.device.read(); miss !== undefined; miss = this.device.read())
      found.push(`${(miss.iova - IOVA_BASE).toString(16)} ${["", "r", "w", "rw"][miss.perm]}`);
    return found;
  }

  /** Turns the loop until nothing is left to do, and lets the guest take what came. */
  settle(): void {
    for (let turns = 0; turns < 8; turns++) {
      this.loop.turn(0);
      this.guest.poll();
    }
  }

  /** The guest connects and says something; what came back, and what the host program read. */
  talk(): { guest: string; host: string } {
    this.guest.send({ op: Op.REQUEST });
    this.settle();
    this.guest.send({ op: Op.RW }, "hello");
    this.settle();
    const [host] = this.endpoints.accepted;
    host?.write("welcome");
    this.settle();
    return { guest: this.guest.story, host: host?.readAll().toString() ?? "" };
  }

  close(): void {
    this.device.close();
    for (const host of this.endpoints.accepted) host.close();
    this.guest.close();
    this.loop.close();
  }
}

/** Runs `body` with a kernel device, and closes it. */
export function withKernel(options: KernelRigOptions, body: (rig: KernelRig) => void): void {
  const rig = new KernelRig(options);
  try {
    body(rig);
  } finally {
    rig.close();
  }
}
