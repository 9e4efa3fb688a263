/**
 * Guests that break the rules on purpose, through raw access to their rings. Each breaks its own device at most: the
 * front-end learns of it, the log names it, a second VM in the same program goes on, and a new session works.
 */

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import { LINUX } from "../../src/guest/framing.js";
import { LARGEST_PAYLOAD_BYTES, TransmitSlot } from "../../src/guest/packet-slots.js";
import { signalEventfd } from "../../src/linux/eventfd.js";
import { VSOCK_QUEUE } from "../../src/virtio/index.js";
import { DescFlag } from "../../src/virtqueue/layout.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { HEADER_BYTES, HOST_CID, Op, PacketHeader, SocketType } from "../../src/vsock/header.js";
import { assertWorks, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

const MOST_CONNECTIONS = 20;
const HOSTILE = 0;
const BYSTANDER = 1;

/** The transmit ring of a guest, to be written to without any rule. */
class RawTransmit {
  readonly gpa: number;
  readonly #machine: VirtualMachine;
  readonly #bytes: Uint8Array;

  constructor(machine: VirtualMachine) {
    const { ram } = machine.platform;
    this.#machine = machine;
    this.gpa = ram.allocate(2 ** 20).gpa;
    this.#bytes = ram.view(this.gpa, 2 ** 20);
  }

  get #queue() {
    return this.#machine.driver.queues[VSOCK_QUEUE.tx];
  }

  /** Writes ring descriptor `index`, whatever it says. */
  descriptor(index: number, address: number | bigint, length: number, flags = 0, next = 0): void {
    this.#queue.splitRing.rings.writeDescriptor(index, { address: BigInt(address), length, flags, next });
  }

  /** Puts these heads into the avail ring and kicks, wanted or not. */
  offer(...heads: number[]): void {
    for (const head of heads) this.#queue.splitRing.offer(head);
    this.#queue.ring.publish();
    signalEventfd(this.#queue.kickFd);
  }

  /** Moves avail.idx, without entries. */
  jump(by: number): void {
    const { rings } = this.#queue.splitRing;
    rings.availIndex = (rings.availIndex + by) & 0xffff;
    signalEventfd(this.#queue.kickFd);
  }

  /** Writes a header to the guest's memory and returns its address. */
  header(fields: Partial<PacketHeader>, offset = 0): number {
    this.#headerWith(fields).write(new DataView(this.#bytes.buffer), offset);
    return this.gpa + offset;
  }

  /** Sends a packet by the ring's rules, with a header that follows none. `send` shows it to the device. */
  packet(fields: Partial<PacketHeader>): void {
    const { ram } = this.#machine.platform;
    const payloadBytes = fields.len ?? 0;
    const capacity = payloadBytes > 0 ? LARGEST_PAYLOAD_BYTES : 0;
    const slot = new TransmitSlot(ram, ram.allocate(HEADER_BYTES + capacity).gpa, capacity);
    this.#headerWith(fields).write(slot.header, 0);
    assert.ok(this.#queue.add(slot.cut(LINUX.transmit(payloadBytes)), slot));
  }

  send(): void {
    this.#queue.flush();
  }

  #headerWith(fields: Partial<PacketHeader>): PacketHeader {
    return Object.assign(new PacketHeader(), {
      srcCid: this.#machine.driver.cid,
      dstCid: HOST_CID,
      type: SocketType.STREAM,
      op: Op.REQUEST,
      srcPort: 99,
      dstPort: 98,
      bufAlloc: 65_536,
      ...fields,
    });
  }
}

describe("a hostile guest", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  let bystander: VirtualMachine;
  let machine: VirtualMachine;
  let raw: RawTransmit;

  before(async () => {
    rig = await Rig.start({ maxConnections: MOST_CONNECTIONS, groups: ["a"] }, { groups: ["b"] });
    bystander = rig.boot({ vm: BYSTANDER });
  });
  after(() => rig.close());

  beforeEach(() => {
    if (machine !== undefined) rig.off(machine);
    machine = rig.boot({ vm: HOSTILE });
    raw = new RawTransmit(machine);
    rig.records.length = 0;
  });

  /** The ring is broken, and everybody who has to know does; nobody else notices. */
  async function assertBroken(pattern: RegExp): Promise<void> {
    await rig.until(() => rig.events("ring-broken").length > 0, "the log line");
    assert.match(JSON.stringify(rig.events("ring-broken")[0]), pattern);
    assert.deepEqual(machine.frontEnd.brokenRings(), [VSOCK_QUEUE.tx]);
    await assertOthersGoOn();
    rig.off(machine);
    machine = rig.boot({ vm: HOSTILE });
    await assertWorks(rig, machine, HOSTILE);
  }

  async function assertOthersGoOn(): Promise<void> {
    await assertWorks(rig, bystander, BYSTANDER, 200_000);
    assert.deepEqual(rig.events("ring-broken", BYSTANDER), []);
  }

  /** Nothing was broken: the guest itself goes on as well. */
  async function assertTolerated(): Promise<void> {
    await assertWorks(rig, machine, HOSTILE);
    assert.deepEqual(rig.events("ring-broken"), []);
    assert.deepEqual(machine.frontEnd.brokenRings(), []);
    await assertOthersGoOn();
  }

  it("whose chain leads back to itself", async () => {
    raw.descriptor(0, raw.gpa, 64, DescFlag.NEXT, 1);
    raw.descriptor(1, raw.gpa + 64, 64, DescFlag.NEXT, 0);
    raw.offer(0);
    await assertBroken(/chain-loops/);
  });

  it("whose chain leads out of the table", async () => {
    raw.descriptor(0, raw.gpa, 64, DescFlag.NEXT, 128);
    raw.offer(0);
    await assertBroken(/next-out-of-range/);
  });

  it("who offers a head that is none", async () => {
    raw.offer(1000);
    await assertBroken(/head-out-of-range/);
  });

  it("whose avail index jumps", async () => {
    raw.jump(1000);
    await assertBroken(/index-jump/);
  });

  for (const [where, address] of [
    ["behind the end of memory", 64 * 2 ** 20],
    ["at the end of memory", 64 * 2 ** 20 - 20],
    ["at the top of the address space", 0xffff_ffff_ffff_fff0n],
    ["at a host-like address", 0x7e55_4000_0000n],
  ] as const) {
    it(`who points ${where}`, async () => {
      raw.descriptor(0, address, HEADER_BYTES);
      raw.offer(0);
      await assertBroken(/buffer-unreachable/);
    });
  }

  it("whose indirect table lies outside of memory", async () => {
    raw.descriptor(0, 2 ** 40, 32, DescFlag.INDIRECT);
    raw.offer(0);
    await assertBroken(/buffer-unreachable/);
  });

  it("whose indirect table has half an entry", async () => {
    raw.descriptor(0, raw.gpa, 24, DescFlag.INDIRECT);
    raw.offer(0);
    await assertBroken(/indirect-length/);
  });

  it("whose packet is shorter than a header", async () => {
    raw.descriptor(0, raw.gpa, 20);
    raw.offer(0);
    await assertBroken(/content-malformed/);
  });

  it("whose header promises more than the chain holds", async () => {
    raw.descriptor(0, raw.header({ op: Op.RW, len: 60_000 }), HEADER_BYTES + 100);
    raw.offer(0);
    await assertBroken(/content-malformed/);
  });

  it("who sends to the transmit queue what the device should write", async () => {
    raw.descriptor(0, raw.gpa, 4096, DescFlag.WRITE);
    raw.offer(0);
    await assertBroken(/content-malformed|readable/);
  });

  it("who sends packets of an unknown type", async () => {
    for (let i = 0; i < 20; i++) raw.packet({ type: 7, srcPort: i });
    raw.send();
    await rig.until(() => rig.events("packet-refused").length > 0, "the log line");
    await assertTolerated();
  });

  it("who sends packets of another guest, to another guest, and with bits above 32", async () => {
    const packets: Partial<PacketHeader>[] = [
      { srcCid: 4 },
      { dstCid: 4 },
      { srcCidHigh: 1 },
      { dstCidHigh: 1 },
      { srcCid: 2 },
    ];
    for (const packet of packets) raw.packet(packet);
    raw.send();
    await assertTolerated();
    assert.equal(bystander.driver.droppedPackets, 0);
  });

  it("who sends every operation for connections that do not exist", async () => {
    for (let op = 0; op < 64; op++) raw.packet({ op, flags: 0xffff_ffff, srcPort: op });
    raw.send();
    await assertTolerated();
  });

  it("who opens more connections than it may", async () => {
    const listener = await rig.listen(1024);
    const attempts = await Promise.allSettled(
      Array.from({ length: MOST_CONNECTIONS + 15 }, () => machine.driver.connect(1024)),
    );
    const opened = attempts.filter(({ status }) => status === "fulfilled").length;
    assert.equal(opened, MOST_CONNECTIONS);
    await rig.until(() => rig.events("connection-limit").length === 1, "the log line");
    await assertOthersGoOn();
    for (const attempt of attempts) if (attempt.status === "fulfilled") attempt.value.reset();
    listener.close();
    await assertTolerated();
  });

  it("who sends far beyond its credit has its connection reset", async () => {
    const listener = await rig.listen(1024);
    const guest = await machine.driver.connect(1024);
    // Nobody reads at the host.
    await listener.accept();
    const { localPort, peerPort } = guest;
    for (let i = 0; i < 60; i++)
      raw.packet({ op: Op.RW, len: 60_000, srcPort: localPort, dstPort: peerPort, bufAlloc: 262_144 });
    raw.send();
    await guest.closed;
    assert.ok(guest.wasReset);
    listener.close();
    await assertTolerated();
  });

  it("whose credit figures lie gets nothing more than its buffers hold", async () => {
    const listener = machine.driver.listen(2048);
    const [host, guest] = await Promise.all([rig.connect(2048), listener.accept()]);
    const { localPort, peerPort } = guest;
    // As if it had taken more than was ever sent, with an endless buffer.
    for (const fwdCnt of [0xffff_ffff, 1, 0x8000_0000]) {
      const figures = { bufAlloc: 0xffff_ffff, fwdCnt };
      raw.packet({ op: Op.CREDIT_UPDATE, srcPort: localPort, dstPort: peerPort, ...figures });
    }
    raw.send();
    host.write(Buffer.alloc(3_000_000));
    await assertOthersGoOn();
    host.destroy();
    guest.reset();
    listener.close();
    await assertTolerated();
  });

  it("who takes no packet that it causes is left waiting, and harms nobody", async () => {
    const { queues } = machine.driver;
    queues[VSOCK_QUEUE.rx].next = () => undefined;
    queues[VSOCK_QUEUE.rx].ring.enableNotifications = () => false;
    // Each of these is to be answered with RST: more than there are receive buffers, and than may wait for one.
    for (let sent = 0; sent < 1000; sent += 100) {
      await rig.until(() => queues[VSOCK_QUEUE.tx].inFlight < 28 || sent >= 400, "room in the transmit ring");
      if (queues[VSOCK_QUEUE.tx].inFlight >= 28) break;
      for (let i = 0; i < 100; i++) raw.packet({ type: 9, srcPort: i });
      raw.send();
    }
    await assertOthersGoOn();
    rig.off(machine);
    machine = rig.boot({ vm: HOSTILE });
    await assertWorks(rig, machine, HOSTILE);
  });
});

describe("a hostile guest behind a vIOMMU", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  let machine: VirtualMachine;
  let raw: RawTransmit;

  beforeEach(async () => {
    rig = await Rig.start({}, {});
    machine = rig.boot({ kind: "viommu" });
    raw = new RawTransmit(machine);
  });

  for (const [what, address] of [
    ["a guest-physical address", (machineRaw: RawTransmit) => machineRaw.gpa],
    ["one of the VMM's addresses", () => 0x7e55_4000_0000],
  ] as const) {
    it(`gets nowhere with ${what}: nothing is reachable that was not mapped`, async () => {
      try {
        raw.header({ type: 7 });
        raw.descriptor(0, address(raw), HEADER_BYTES);
        raw.offer(0);
        await rig.until(() => (machine.frontEnd.iotlb?.unanswered ?? 0) > 0, "the question");
        // It was asked for, and not read: a packet of an unknown type would have been refused.
        assert.deepEqual(rig.events("packet-refused"), []);
        await assertWorks(rig, rig.boot({ vm: 1, kind: "viommu" }), 1);
      } finally {
        await rig.close();
      }
    });
  }
});
