/** For tests of lints: a session between a front-end and a back-end, said one part at a time, right unless told otherwise. */

import { IOTLB_PERM, IOTLB_TYPE, type MemRegion, type PayloadOf } from "../../vhost/wire/index.js";
import { F, maskOf, PROTOCOL_F, VSOCK_QUEUE, viewOf } from "../../virtio/index.js";
import { HEADER_BYTES, Op, PacketHeader, SocketType } from "../../vsock/header.js";
import type { Ender, SessionFrame } from "../frame.js";
import { FrameMaker, MS, START_NS } from "../frames.fixture.js";
import type { RingFaultKind, RingPacket } from "../rings/traffic.js";
import { type Finding, InspectedSession } from "../session.js";

/** What a good vsock back-end offers. */
export const OFFER = maskOf(
  1,
  F.LOG_ALL,
  F.INDIRECT_DESC,
  F.EVENT_IDX,
  F.PROTOCOL_FEATURES,
  F.VERSION_1,
  F.ACCESS_PLATFORM,
  F.RING_PACKED,
);
export const PROTOCOL = maskOf(
  PROTOCOL_F.MQ,
  PROTOCOL_F.LOG_SHMFD,
  PROTOCOL_F.REPLY_ACK,
  PROTOCOL_F.BACKEND_REQ,
  PROTOCOL_F.CONFIG,
  PROTOCOL_F.CONFIGURE_MEM_SLOTS,
  PROTOCOL_F.STATUS,
  PROTOCOL_F.RESET_DEVICE,
);
/** What a plain guest takes of it. */
export const TAKEN = maskOf(F.EVENT_IDX, F.PROTOCOL_FEATURES, F.VERSION_1);
export const TAKEN_33 = TAKEN | maskOf(F.ACCESS_PLATFORM);

export const USER = 0x7f00_0000_0000n;
export const REGION: MemRegion = { guestAddress: 0n, size: 0x1000_0000n, userAddress: USER, mmapOffset: 0n };
/** Of the ring at an address that a 128-descriptor split ring may have. */
export const DESC = USER + 0x10_0000n;
export const IOVA = 0xffff_f000n;

export class Talk {
  readonly make = new FrameMaker();
  readonly session = new InspectedSession(
    { session: 1, timeNs: START_NS, transport: "vhost-user" },
    { describe: { deviceType: "vsock" } },
  );

  say(frame: SessionFrame): void {
    this.session.frame(frame);
  }

  wait(seconds: number): void {
    this.make.wait(BigInt(seconds * 1000) * MS);
    this.session.passTime(this.make.nowNs);
  }

  /** From GET_FEATURES to SET_OWNER. */
  begin(offer: bigint = OFFER, protocol: bigint = PROTOCOL, taken: bigint = protocol): this {
    this.say(this.make.request("GET_FEATURES"));
    this.say(this.make.reply("GET_FEATURES", { kind: "u64", value: offer }));
    this.protocol(protocol, taken);
    this.say(this.make.request("SET_OWNER"));
    return this;
  }

  protocol(offered: bigint, taken: bigint = offered): this {
    this.say(this.make.request("GET_PROTOCOL_FEATURES"));
    this.say(this.make.reply("GET_PROTOCOL_FEATURES", { kind: "u64", value: offered }));
    this.say(this.make.request("SET_PROTOCOL_FEATURES", { kind: "u64", value: taken }));
    return this;
  }

  channel(): this {
    this.say(this.make.request("SET_BACKEND_REQ_FD", undefined, { fds: 1 }));
    return this;
  }

  features(word: bigint = TAKEN): this {
    this.say(this.make.request("SET_FEATURES", { kind: "u64", value: word }));
    return this;
  }

  memory(...regions: readonly MemRegion[]): this {
    this.say(this.make.request("SET_MEM_TABLE", { kind: "memTable", regions }, { fds: regions.length }));
    return this;
  }

  region(name: "ADD_MEM_REG" | "REM_MEM_REG", region: MemRegion): this {
    this.say(this.make.request(name, { kind: "memRegion", region }, { fds: name === "ADD_MEM_REG" ? 1 : 0 }));
    return this;
  }

  state(
    name: "SET_VRING_NUM" | "SET_VRING_BASE" | "SET_VRING_ENABLE" | "GET_VRING_BASE",
    index: number,
    num: number,
  ): this {
    this.say(this.make.request(name, { kind: "vringState", index, num }));
    return this;
  }

  addr(index: number, desc: bigint, more: Partial<PayloadOf<"vringAddr">> = {}): this {
    const areas = { avail: desc + 0x800n, used: desc + 0x940n, log: 0n, flags: 0 };
    this.say(this.make.request("SET_VRING_ADDR", { kind: "vringAddr", index, desc, ...areas, ...more }));
    return this;
  }

  bell(name: "SET_VRING_KICK" | "SET_VRING_CALL" | "SET_VRING_ERR", index: number): this {
    this.say(this.make.request(name, { kind: "vringFd", index, noFd: false }, { fds: 1 }));
    return this;
  }

  /** All messages of a ring, in QEMU's order. */
  ring(index = 0, desc = DESC + BigInt(index) * 0x1000n, base = 0): this {
    this.state("SET_VRING_NUM", index, 128).state("SET_VRING_BASE", index, base).addr(index, desc);
    return this.bell("SET_VRING_CALL", index)
      .bell("SET_VRING_KICK", index)
      .state("SET_VRING_ENABLE", index, 1);
  }

  stopRing(index = 0, at = 0): this {
    this.state("SET_VRING_ENABLE", index, 0).state("GET_VRING_BASE", index, 0);
    this.say(this.make.reply("GET_VRING_BASE", { kind: "vringState", index, num: at }));
    return this;
  }

  /** Everything up to a running ring, without translation. */
  run(): this {
    return this.begin().features().memory(REGION).ring();
  }

  /** The same with it, its used ring mapped. */
  runTranslated(): this {
    return this.begin().channel().features(TAKEN_33).memory(REGION).ring(0, IOVA).update();
  }

  iotlb(type: number, iova: bigint, size: bigint, userAddress = USER): PayloadOf<"iotlb"> {
    return { kind: "iotlb", type, iova, size, userAddress, perm: IOTLB_PERM.readWrite };
  }

  update(iova = IOVA, size = 0x1000n, userAddress = USER): this {
    return this.map(this.iotlb(IOTLB_TYPE.UPDATE, iova, size, userAddress));
  }

  invalidate(iova: bigint, size: bigint): this {
    return this.map(this.iotlb(IOTLB_TYPE.INVALIDATE, iova, size));
  }

  map(payload: PayloadOf<"iotlb">): this {
    this.say(this.make.request("IOTLB_MSG", payload));
    this.say(this.make.ack("IOTLB_MSG"));
    return this;
  }

  miss(iova: bigint, type: number = IOTLB_TYPE.MISS): this {
    this.say(this.make.ask("IOTLB_MSG", this.iotlb(type, iova, 0n), { needReply: true }));
    return this;
  }

  /** A packet on the ring that its direction has: of the guest 3, if nothing else is said. */
  packet(direction: RingPacket["direction"], fields: Partial<PacketHeader>): this {
    const header = new Uint8Array(HEADER_BYTES);
    const [guest, host] = [
      { srcCid: 3, srcPort: 1024 },
      { dstCid: 2, dstPort: 5000 },
    ];
    const way =
      direction === "to-device"
        ? { ...guest, ...host }
        : { srcCid: host.dstCid, srcPort: host.dstPort, dstCid: guest.srcCid, dstPort: guest.srcPort };
    const content = { type: SocketType.STREAM, op: Op.REQUEST, ...way, ...fields };
    Object.assign(new PacketHeader(), content).write(viewOf(header), 0);
    const ring = direction === "to-device" ? VSOCK_QUEUE.tx : VSOCK_QUEUE.rx;
    this.session.packet({ timeNs: this.make.nowNs, ring, direction, header, payload: new Uint8Array(0) });
    return this;
  }

  /** What followed-session.test.ts provokes in a ring. */
  fault(kind: RingFaultKind): this {
    this.session.fault({ timeNs: this.make.nowNs, ring: 0, kind, text: "what stood there" });
    return this;
  }

  end(by: Ender = "front-end"): readonly Finding[] {
    this.session.finish({ timeNs: this.make.nowNs + MS, by, reason: `the ${by} closed the connection` });
    return this.session.findings;
  }
}
