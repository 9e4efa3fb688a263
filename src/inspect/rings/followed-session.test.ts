/** One session's messages with their files, and rings in memory that the test writes as a driver and a device would. */
import assert from "node:assert/strict";
import { closeSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { afterEach, beforeEach, describe, it } from "node:test";
import { duplicate } from "../../linux/duplicate.js";
import { EventLoop } from "../../linux/event-loop.js";
import { createEventfd, drainEventfd, signalEventfd } from "../../linux/eventfd.js";
import { createMemfd, mapShared, park, view } from "../../linux/mapping.js";
import { IOTLB_PERM, IOTLB_TYPE, type MemRegion } from "../../vhost/wire/index.js";
import { F, maskOf, PROTOCOL_F } from "../../virtio/index.js";
import { DescFlag, placeSplitQueue, USED, usedRingOffset } from "../../virtqueue/layout.js";
import { SplitDriverRings } from "../../virtqueue/split-driver-rings.js";
import { HEADER_BYTES, Op, PacketHeader, SocketType } from "../../vsock/header.js";
import type { SessionFrame } from "../frame.js";
import { FrameMaker } from "../frames.fixture.js";
import { FollowedSession } from "./followed-session.js";
import { packetHeader } from "./traffic.js";

const SIZE = 8;
const MEMORY_BYTES = 0x10000;
const BUFFERS = 0x4000;
const GPA = 0x10_0000n;
const UVA = 0x7f00_0000_0000n;
const IOVA = 0xffff_0000n;
const TX = 1;
const REGION: MemRegion = {
  guestAddress: GPA,
  size: BigInt(MEMORY_BYTES),
  userAddress: UVA,
  mmapOffset: 0n,
};

/** Guest memory with one split ring at its beginning. */
class Memory {
  readonly fd = createMemfd("followed", MEMORY_BYTES);
  readonly host = mapShared(this.fd, 0, MEMORY_BYTES);
  readonly data = new DataView(view(this.host, MEMORY_BYTES));
  readonly placed = placeSplitQueue(SIZE);
  readonly rings = new SplitDriverRings({
    size: SIZE,
    desc: this.host + this.placed.desc,
    avail: this.host + this.placed.avail,
    used: this.host + this.placed.used,
  });

  /** The driver makes a packet available; `base` is the address of the memory's first byte for the device. */
  send(base: bigint, port: number): void {
    const { rings, data } = this;
    const slot = rings.availIndex % SIZE;
    const at = BUFFERS + slot * 0x100;
    const header = new PacketHeader();
    const content = { srcCid: 3, dstCid: 2, srcPort: port, type: SocketType.STREAM, op: Op.REQUEST };
    Object.assign(header, content).write(data, at);
    rings.writeDescriptor(slot, { address: base + BigInt(at), length: HEADER_BYTES });
    rings.setAvailSlot(slot, slot);
    rings.availIndex = (rings.availIndex + 1) & 0xffff;
  }

  /** The device has used the oldest. */
  use(): void {
    const { rings, data, placed } = this;
    const slot = rings.usedIndex % SIZE;
    data.setUint32(placed.used + usedRingOffset(slot), slot, true);
    data.setUint32(placed.used + usedRingOffset(slot) + 4, 0, true);
    data.setUint16(placed.used + USED.idx.offset, (rings.usedIndex + 1) & 0xffff, true);
  }

  close(): void {
    park(this.host, MEMORY_BYTES);
    closeSync(this.fd);
  }
}

function openFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`];
    } catch {
      return [];
    }
  });
}

describe("a session whose rings are followed", () => {
  const make = new FrameMaker();
  let loop: EventLoop;
  let memory: Memory;
  let kick: number;
  let call: number;
  let session: FollowedSession;
  let ports: number[];
  let remarks: string[];
  let faults: string[];
  let filesBefore: string[];

  beforeEach(() => {
    filesBefore = openFiles();
    loop = new EventLoop();
    memory = new Memory();
    [kick, call] = [createEventfd(), createEventfd()];
    ports = [];
    remarks = [];
    faults = [];
    session = new FollowedSession({
      loop,
      deviceType: "vsock",
      mostPayloadBytes: 0,
      nowNs: () => 0n,
      hasRoom: () => true,
      rang: () => session.look(),
      packet: (packet) => ports.push(packetHeader(packet).srcPort),
      fault: ({ kind, text }) => faults.push(`${kind}: ${text}`),
      remark: (text) => remarks.push(text),
    });
  });

  afterEach(() => {
    session.close();
    memory.close();
    for (const fd of [kick, call]) closeSync(fd);
    loop.close();
    assert.deepEqual(openFiles(), filesBefore, "a file was left open");
  });

  function say(frame: SessionFrame, ...fds: readonly number[]): void {
    session.message(frame, fds.map(duplicate));
  }

  function state(name: "SET_VRING_NUM" | "SET_VRING_BASE" | "GET_VRING_BASE", num: number): void {
    say(make.request(name, { kind: "vringState", index: TX, num }));
  }

  function giveMemory(...memories: readonly Memory[]): void {
    const regions = memories.map(() => REGION);
    say(
      make.request("SET_MEM_TABLE", { kind: "memTable", regions }, { fds: memories.length }),
      ...memories.map(({ fd }) => fd),
    );
  }

  function giveKick(): void {
    say(make.request("SET_VRING_KICK", { kind: "vringFd", index: TX, noFd: false }, { fds: 1 }), kick);
  }

  function address(base: bigint): void {
    const { desc, avail, used } = memory.placed;
    say(
      make.request("SET_VRING_ADDR", {
        kind: "vringAddr",
        index: TX,
        flags: 0,
        desc: base + BigInt(desc),
        avail: base + BigInt(avail),
        used: base + BigInt(used),
        log: 0n,
      }),
    );
  }

  /** Everything up to a ring that runs, at a base position. */
  function run(ringBase = UVA, features = maskOf(F.VERSION_1), position = 0): void {
    say(make.request("SET_FEATURES", { kind: "u64", value: features }));
    giveMemory(memory);
    state("SET_VRING_NUM", SIZE);
    state("SET_VRING_BASE", position);
    address(ringBase);
    say(make.request("SET_VRING_CALL", { kind: "vringFd", index: TX, noFd: false }, { fds: 1 }), call);
    giveKick();
  }

  function stop(at: number): void {
    state("GET_VRING_BASE", 0);
    say(make.reply("GET_VRING_BASE", { kind: "vringState", index: TX, num: at }));
  }

  function iotlb(type: number, iova: bigint, size = REGION.size, userAddress = UVA): void {
    const perm = IOTLB_PERM.readWrite;
    say(make.request("IOTLB_MSG", { kind: "iotlb", type, iova, size, userAddress, perm }));
  }

  it("has its packets seen, at user addresses and guest-physical ones", () => {
    run();
    memory.send(GPA, 1);
    memory.send(GPA, 2);
    session.look();
    memory.use();
    session.look();
    assert.deepEqual(ports, [1, 2]);
    const { available, used, unseen, packets } = session.traffic.get(TX) ?? {};
    assert.deepEqual({ available, used, unseen, packets }, { available: 2, used: 1, unseen: 0, packets: 2 });
  });

  it("has them seen at guest-physical addresses throughout, where those were negotiated", () => {
    say(
      make.request("SET_PROTOCOL_FEATURES", {
        kind: "u64",
        value: maskOf(PROTOCOL_F.GPA_ADDRESSES),
      }),
    );
    run(GPA);
    memory.send(GPA, 1);
    session.look();
    assert.deepEqual(ports, [1]);
  });

  it("is followed through its IOTLB: what is mapped is seen, what comes before its UPDATE waits, what was taken away is not", () => {
    run(IOVA, maskOf(F.VERSION_1, F.ACCESS_PLATFORM));
    const rings = 0x4000n;
    iotlb(IOTLB_TYPE.UPDATE, IOVA, rings);
    memory.send(IOVA, 1);
    session.look();
    assert.deepEqual(ports, []);
    iotlb(IOTLB_TYPE.UPDATE, IOVA + rings, rings, UVA + rings);
    session.look();
    assert.deepEqual(ports, [1]);
    // The device had its mapping while it used this one.
    memory.send(IOVA, 2);
    memory.use();
    iotlb(IOTLB_TYPE.INVALIDATE, IOVA + rings, rings);
    assert.deepEqual(ports, [1, 2]);
    memory.send(IOVA, 3);
    session.look();
    assert.deepEqual(ports, [1, 2]);
  });

  it("is not touched while pages are on their way to it (postcopy)", () => {
    run();
    say(make.request("POSTCOPY_ADVISE"));
    memory.send(GPA, 1);
    session.look();
    assert.deepEqual(ports, []);
    say(make.request("POSTCOPY_END"));
    session.look();
    assert.deepEqual(ports, [1]);
  });

  it("goes on after a stop, and begins anew with another driver", () => {
    run();
    memory.send(GPA, 1);
    memory.use();
    state("GET_VRING_BASE", 0);
    // Until its answer the device may go on; after it the memory may hold anything.
    memory.send(GPA, 2);
    memory.use();
    session.look();
    memory.send(GPA, 3);
    say(make.reply("GET_VRING_BASE", { kind: "vringState", index: TX, num: 2 }));
    session.look();
    assert.deepEqual(ports, [1, 2]);
    state("SET_VRING_BASE", 2);
    giveKick();
    session.look();
    assert.deepEqual(ports, [1, 2, 3]);
    assert.equal(session.traffic.get(TX)?.available, 3);
    stop(3);
    memory.rings.availIndex = 0;
    memory.data.setUint16(memory.placed.used + USED.idx.offset, 0, true);
    state("SET_VRING_BASE", 0);
    giveKick();
    memory.send(GPA, 4);
    session.look();
    assert.deepEqual(ports, [1, 2, 3, 4]);
  });

  it("is started again by a front-end that never saw its stop answered", () => {
    run();
    state("GET_VRING_BASE", 0);
    memory.rings.availIndex = 5;
    memory.data.setUint16(memory.placed.used + USED.idx.offset, 5, true);
    state("SET_VRING_BASE", 5);
    giveKick();
    memory.send(GPA, 9);
    session.look();
    assert.deepEqual(ports, [9]);
  });

  it("gets a new memory table in its middle, and goes on in there", () => {
    run();
    memory.send(GPA, 1);
    const other = new Memory();
    giveMemory(other);
    assert.deepEqual(ports, [1]);
    // The same ring, with the same history.
    other.rings.availIndex = 1;
    other.send(GPA, 2);
    session.look();
    assert.deepEqual(ports, [1, 2]);
    say(make.request("REM_MEM_REG", { kind: "memRegion", region: REGION }));
    other.send(GPA, 3);
    session.look();
    assert.deepEqual(ports, [1, 2]);
    say(make.request("ADD_MEM_REG", { kind: "memRegion", region: REGION }, { fds: 1 }), other.fd);
    session.look();
    assert.deepEqual(ports, [1, 2, 3]);
    other.close();
  });

  it("begins anew with a second owner, whose memory is at the addresses of the first one's", () => {
    const own = () => say(make.request("SET_OWNER"));
    own();
    run();
    memory.send(GPA, 1);
    own();
    assert.deepEqual(ports, [1]);
    const other = new Memory();
    say(make.request("ADD_MEM_REG", { kind: "memRegion", region: REGION }, { fds: 1 }), other.fd);
    state("SET_VRING_NUM", SIZE);
    state("SET_VRING_BASE", 0);
    address(UVA);
    giveKick();
    other.send(GPA, 2);
    session.look();
    assert.deepEqual(ports, [1, 2]);
    assert.deepEqual(remarks, []);
    other.close();
  });

  it("has its eventfds watched, and nothing taken from them", () => {
    run();
    memory.send(GPA, 1);
    signalEventfd(kick);
    loop.turn(1000);
    assert.deepEqual(ports, [1]);
    assert.equal(session.traffic.get(TX)?.kicks, 1);
    memory.use();
    signalEventfd(call);
    loop.turn(1000);
    assert.equal(session.traffic.get(TX)?.used, 1);
    assert.equal(session.traffic.get(TX)?.calls, 1);
    // Whoever they are for finds them signalled.
    assert.deepEqual([drainEventfd(kick), drainEventfd(call)], [8, 8]);
  });

  it("has its memory mapped for reading only", () => {
    run();
    const mappings = readFileSync("/proc/self/maps", "utf8")
      .split("\n")
      .filter((line) => line.includes("/memfd:followed"));
    assert.deepEqual(
      mappings.map((line) => line.split(" ")[1]).sort(),
      ["r--s", "rw-s"],
      "the test's own mapping, and that of whoever looks on",
    );
  });

  it("says what it cannot map, and follows the rest", () => {
    const region = { ...REGION, guestAddress: 0n, userAddress: 0n, mmapOffset: BigInt(MEMORY_BYTES) };
    say(make.request("SET_FEATURES", { kind: "u64", value: maskOf(F.VERSION_1) }));
    run();
    say(make.request("ADD_MEM_REG", { kind: "memRegion", region }, { fds: 1 }), memory.fd);
    assert.match(
      remarks[0] ?? "",
      /^rings: what lies in a region is not seen: .*the file is 65536 bytes long/,
    );
    memory.send(GPA, 1);
    session.look();
    assert.deepEqual(ports, [1]);
  });

  it("may have descriptors that lead nowhere, in a circle or far too far", () => {
    run();
    const { rings } = memory;
    rings.writeDescriptor(0, { address: 0x1n, length: 0xffff_ffff });
    rings.writeDescriptor(1, { address: GPA, length: 64, flags: DescFlag.NEXT, next: 1 });
    rings.writeDescriptor(2, { address: GPA, length: 0xffff_fff0, flags: DescFlag.INDIRECT });
    rings.writeDescriptor(3, { address: GPA, length: 64, flags: DescFlag.NEXT, next: 200 });
    for (let slot = 0; slot < 4; slot++) rings.setAvailSlot(slot, slot);
    rings.setAvailSlot(4, 0xffff);
    rings.availIndex = 5;
    session.look();
    for (let count = 0; count < 5; count++) memory.use();
    session.look();
    session.close();
    const { available, used, packets, unseen } = session.traffic.get(TX) ?? {};
    assert.deepEqual({ available, used, packets, unseen }, { available: 5, used: 5, packets: 0, unseen: 5 });
  });

  it("has elements in its used ring that name nothing, and indices that contradict each other", () => {
    run();
    memory.send(GPA, 1);
    session.look();
    memory.use();
    memory.data.setUint32(memory.placed.used + usedRingOffset(0), 200, true);
    session.look();
    memory.data.setUint16(memory.placed.used + USED.idx.offset, 4, true);
    session.look();
    assert.deepEqual(faults, [
      "used-unknown: a used element names 200 of 8 descriptors",
      "indices: the used index is 4, the available one 1",
    ]);
  });

  it("is shown nothing of another's that lies where its packet was, behind a vIOMMU", () => {
    const data = Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0);
    say(make.reply("GET_CONFIG", { kind: "config", offset: 0, flags: 0, data }));
    run(IOVA, maskOf(F.VERSION_1, F.ACCESS_PLATFORM));
    iotlb(IOTLB_TYPE.UPDATE, IOVA);
    memory.send(IOVA, 1);
    memory.send(IOVA, 2);
    // The first one's page has been given back, and has a packet for the guest now.
    Object.assign(new PacketHeader(), {
      srcCid: 2,
      dstCid: 3,
      type: SocketType.STREAM,
      op: Op.RST,
    }).write(memory.data, BUFFERS);
    memory.use();
    session.look();
    assert.deepEqual(ports, [2]);
    assert.equal(session.traffic.get(TX)?.unseen, 1);
  });
});
