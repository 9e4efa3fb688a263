import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { Outcome } from "../memory/address.js";
import { F, mask } from "../virtio/index.js";
import { HEADER_BYTES, Op } from "../vsock/header.js";
import { GUEST_CID, openDescriptors } from "../vsock/switch-rig.js";
import { BackendRig, ListBackendQueue, ListQueue, WINDOW_BYTES } from "./backend-rig.js";

const RX = 0;
const TX = 1;
const EVENT = 2;

let rig: BackendRig;
let atStart: number;

beforeEach(() => {
  atStart = openDescriptors();
  rig = new BackendRig();
});

afterEach(() => {
  rig.close();
  assert.equal(openDescriptors(), atStart, "descriptors are left open");
});

describe("packets on the transmit queue", () => {
  it("are read in any framing, also where a view of memory ends within the header", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX);
    for (let cut = 1; cut < HEADER_BYTES; cut++)
      rig.send(tx, { op: Op.REQUEST, srcPort: cut }, { cuts: [cut] });
    for (let before = 1; before < HEADER_BYTES; before++) {
      const address = rig.place(HEADER_BYTES, WINDOW_BYTES - before);
      rig.send(
        tx,
        { op: Op.REQUEST, srcPort: 100 + before },
        { address, cuts: before % 2 === 0 ? [before] : [] },
      );
    }
    for (let index = 0; index < 86; index++) rig.offer(rx, [[rig.place(64), 64]]);
    rig.kick(tx);
    assert.equal(tx.broken, undefined);
    assert.deepEqual(rig.heard(rx), Array(86).fill("RESPONSE"));
    assert.ok(tx.queue.used.every(({ writtenBytes }) => writtenBytes === 0));
    assert.equal(rig.vsock.connectionCount, 86);
  });

  it("that a device before had taken, and not returned, are not done again, and the guest hears that", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX);
    for (let index = 0; index < 8; index++) rig.offer(rx);
    tx.queue.replays = 4;
    rig.send(tx, { op: Op.REQUEST, srcPort: 1 });
    rig.send(tx, { op: Op.RW, len: 1, srcPort: 2 }, { bytes: HEADER_BYTES + 1 });
    rig.send(tx, { op: Op.RST, srcPort: 3 });
    rig.send(tx, { op: Op.REQUEST, srcPort: 4, srcCid: GUEST_CID + 1 });
    rig.send(tx, { op: Op.REQUEST, srcPort: 5 });
    rig.kick(tx);
    assert.deepEqual(rig.heard(rx), ["RST", "RST", "RESPONSE"]);
    assert.equal(rig.endpoints.calls, 1);
    assert.equal(tx.queue.published, 5);
  });

  it("shorter than their header, or than it says, break the ring and nothing else", () => {
    const rx = rig.start(RX);
    for (const [bytes, len] of [
      [HEADER_BYTES - 1, 0],
      [0, 0],
      [HEADER_BYTES, 1],
      [HEADER_BYTES + 10, 11],
      [HEADER_BYTES + 10, 0xffff_ffff],
    ]) {
      const tx = rig.start(TX);
      rig.send(tx, { op: Op.REQUEST });
      rig.send(tx, { op: Op.RW, len }, { bytes });
      rig.send(tx, { op: Op.REQUEST, srcPort: 77 });
      rig.kick(tx);
      assert.equal(tx.broken?.code, "content-malformed");
      assert.equal(tx.queue.published, 1, "what came before it is given back");
      assert.equal(rig.vsock.connectionCount, 1);
      rig.vsock.reset("the next one");
    }
    assert.equal(rx.broken, undefined);
  });

  it("may have longer buffers than their payload", () => {
    rig.start(RX);
    const tx = rig.start(TX);
    rig.connect(tx);
    rig.send(tx, { op: Op.RW, len: 4 }, { bytes: HEADER_BYTES + 100 });
    rig.kick(tx);
    assert.equal(rig.endpoints.accepted[0].readAll().length, 4);
  });

  it("are taken in bursts of 256 with one notification each, until none is left", () => {
    rig.start(RX);
    const tx = rig.start(TX);
    rig.turn();
    const before = tx.notifications;
    const address = rig.place(HEADER_BYTES);
    for (let index = 0; index < 600; index++) rig.send(tx, { op: Op.RST }, { address });
    rig.kick(tx);
    assert.equal(tx.queue.published, 600);
    assert.equal(tx.notifications - before, 3);
    assert.equal(tx.queue.kicksEnabled, true);
  });

  it("stay in the ring while too many answers wait, and are taken when the guest offers buffers", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX);
    const address = rig.place(HEADER_BYTES);
    for (let index = 0; index < 300; index++) rig.send(tx, { op: Op.RW }, { address });
    rig.kick(tx);
    assert.equal(tx.queue.published, 256);
    const buffer = rig.place(64);
    for (let index = 0; index < 300; index++) rig.offer(rx, [[buffer, 64]]);
    rig.kick(rx);
    assert.equal(tx.queue.published, 300);
    assert.equal(rx.queue.published, 300);
  });

  it("wait for memory that is not mapped, and are taken when it is", () => {
    const tx = rig.start(TX);
    rig.send(tx, { op: Op.RST });
    rig.send(tx, { op: Op.RST });
    tx.queue.missFrom = 1;
    rig.kick(tx);
    assert.equal(tx.queue.published, 1);
    tx.queue.missFrom = 99;
    rig.backend.memoryAvailable();
    rig.turn();
    assert.equal(tx.queue.published, 2);
    tx.queue.outcome = Outcome.MISS;
    rig.send(tx, { op: Op.RST });
    rig.kick(tx);
    assert.equal(tx.queue.published, 2);
    tx.queue.outcome = Outcome.OK;
    rig.backend.memoryAvailable();
    rig.turn();
    assert.equal(tx.queue.published, 3);
  });
});

describe("buffers on the receive queue", () => {
  it("are filled in any framing, also where a view of memory ends within the header", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX);
    const text = "0123456789".repeat(3);
    let offered = 0;
    for (let cut = 1; cut < HEADER_BYTES; cut++, offered++) {
      const [first, second] = [rig.place(cut, WINDOW_BYTES - cut), rig.place(100)];
      // Neighbours on every other one: a segment that no single view shows.
      rig.offer(
        rx,
        cut % 2 === 0
          ? [[first, 144]]
          : [
              [first, cut],
              [second, 144 - cut],
            ],
      );
    }
    rig.connect(tx);
    for (let index = 1; index < offered; index++) {
      rig.endpoints.accepted[0].write(text);
      rig.turn();
    }
    assert.deepEqual(rig.heard(rx), ["RESPONSE", ...Array(offered - 1).fill("RW 30")]);
    assert.ok(rx.queue.used.slice(1).every(({ writtenBytes }) => writtenBytes === HEADER_BYTES + 30));
    const [address, length] = rx.queue.chains[1].writable[0];
    const start = address - rig.memory.scratch.address;
    assert.equal(
      Buffer.from(
        rig.memory.scratch.bytes.subarray(start + HEADER_BYTES, start + HEADER_BYTES + 30),
      ).toString(),
      text.slice(0, length - HEADER_BYTES),
    );
  });

  it("that cannot hold a header break the ring, and what came before them is used", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX);
    rig.offer(rx);
    rig.offer(rx, [[rig.place(43), 43]]);
    rig.connect(tx);
    rig.send(tx, { op: Op.CREDIT_REQUEST });
    rig.kick(tx);
    assert.equal(rx.broken?.code, "content-malformed");
    assert.deepEqual(rig.heard(rx), ["RESPONSE"]);
    assert.equal(tx.broken, undefined);
  });

  it("that are missing make what is due wait for a kick", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX);
    rig.connect(tx);
    assert.deepEqual(rig.heard(rx), []);
    assert.equal(rx.queue.kicksEnabled, true);
    rig.offer(rx);
    rig.turn();
    assert.deepEqual(rig.heard(rx), [], "nobody looks without a kick");
    rig.kick(rx);
    assert.deepEqual(rig.heard(rx), ["RESPONSE"]);
  });

  it("are left alone, every one of them, by a read that found nothing", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX);
    for (let index = 0; index < 10; index++) rig.offer(rx);
    rig.connect(tx);
    const [host] = rig.endpoints.accepted;
    host.write("x".repeat(4096));
    rig.turn();
    const used = rx.queue.used.length;
    assert.equal(rx.queue.nextAvail, used);
    host.endWriting();
    rig.turn();
    assert.equal(rx.queue.nextAvail, used + 1);
  });

  it("of a ring that is not mapped wait for memory", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX);
    rig.offer(rx);
    rx.queue.outcome = Outcome.MISS;
    rig.connect(tx);
    assert.deepEqual(rig.heard(rx), []);
    rx.queue.outcome = Outcome.OK;
    rig.backend.memoryAvailable();
    rig.turn();
    assert.deepEqual(rig.heard(rx), ["RESPONSE"]);
  });
});

describe("queues that stop and start", () => {
  it("keep their connections when they go on where they were: the VM was paused", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX);
    rig.offer(rx);
    rig.connect(tx);
    assert.equal(rig.vsock.connectionCount, 1);
    rig.backend.queueStopped(RX);
    rig.backend.queueStopped(TX);
    rig.endpoints.accepted[0].write("meanwhile");
    rig.turn();
    const again = rig.start(RX, rx.queue.nextAvail);
    rig.start(TX, tx.queue.nextAvail);
    rig.turn();
    assert.equal(rig.vsock.connectionCount, 1);
    assert.equal(again.queue.used.length, 0);
  });

  it("end their connections when they start elsewhere: the driver is a new one", () => {
    for (const order of [
      [RX, TX],
      [TX, RX],
    ]) {
      const rx = rig.start(RX);
      const tx = rig.start(TX);
      rig.offer(rx);
      rig.connect(tx);
      assert.equal(rig.vsock.connectionCount, 1);
      for (const index of order) rig.backend.queueStopped(index);
      for (const index of order) rig.start(index);
      rig.turn();
      assert.equal(rig.vsock.connectionCount, 0);
      assert.equal(rig.vsock.hasWork, false);
      for (const index of order) rig.backend.queueStopped(index);
      rig.backend.reset();
    }
  });

  it("keep their connections when, with RING_RESET, one starts anew and the other goes on", () => {
    for (const reset of [RX, TX]) {
      const rx = rig.start(RX);
      const tx = rig.start(TX);
      rig.offer(rx);
      rig.connect(tx);
      assert.equal(rig.vsock.connectionCount, 1);
      rig.backend.queueStopped(reset);
      const again = new ListBackendQueue(new ListQueue(reset), rig.memory, -1, () => {});
      again.driverFeatures = mask(F.RING_RESET);
      rig.backend.queueStarted(again);
      rig.turn();
      assert.equal(rig.vsock.connectionCount, 1);
      for (const index of [RX, TX]) rig.backend.queueStopped(index);
      rig.backend.reset();
    }
  });

  it("are not touched, and their kicks not watched, once they are stopped", () => {
    const tx = rig.start(TX);
    rig.turn();
    rig.backend.queueStopped(TX);
    rig.send(tx, { op: Op.REQUEST });
    rig.kick(tx);
    assert.equal(tx.queue.used.length, 0);
  });

  it("without a kick descriptor are looked at again and again", () => {
    const tx = rig.start(TX, 0, "polled");
    for (let index = 1; index <= 3; index++) {
      rig.send(tx, { op: Op.RST });
      rig.clock.ms += 1;
      rig.turn();
      assert.equal(tx.queue.published, index);
    }
    rig.backend.queueStopped(TX);
    rig.send(tx, { op: Op.RST });
    rig.clock.ms += 10;
    rig.turn();
    assert.equal(tx.queue.published, 3);
  });

  it("can be broken both, and started again", () => {
    for (let round = 0; round < 3; round++) {
      const rx = rig.start(RX);
      const tx = rig.start(TX);
      const event = rig.start(EVENT);
      rig.offer(rx, [[rig.place(1), 1]]);
      rig.send(tx, { op: Op.REQUEST });
      rig.send(tx, { op: Op.REQUEST }, { bytes: 1 });
      rig.kick(tx);
      assert.notEqual(tx.broken, undefined);
      assert.notEqual(rx.broken, undefined);
      assert.equal(event.broken, undefined);
      rig.backend.queueStopped(EVENT);
      rig.backend.reset();
    }
  });

  it("end with the session, and so do their connections", () => {
    rig.start(RX);
    const tx = rig.start(TX);
    rig.connect(tx);
    rig.backend.queueStopped(RX);
    rig.backend.queueStopped(TX);
    rig.backend.sessionEnded("the VMM left");
    assert.deepEqual(rig.ends, ["ended"]);
    assert.equal(rig.vsock.connectionCount, 0);
    rig.loop.turn(0);
    assert.notEqual(rig.endpoints.accepted[0].condition, "open");
  });
});

describe("the configuration space", () => {
  it("is the guest's CID in eight bytes, and nothing beyond", () => {
    assert.deepEqual([...(rig.backend.readConfig(0, 8) ?? [])], [3, 0, 0, 0, 0, 0, 0, 0]);
    assert.deepEqual([...(rig.backend.readConfig(4, 4) ?? [])], [0, 0, 0, 0]);
    assert.equal(rig.backend.readConfig(0, 9), undefined);
    assert.equal(rig.backend.readConfig(8, 1), undefined);
  });
});

describe("a kick descriptor that cannot be watched", () => {
  it("is told in the log, and its queue is polled instead", () => {
    const rx = rig.start(RX);
    const tx = rig.start(TX, 0, "unwatchable");
    rig.offer(rx, [[rig.place(64), 64]]);
    rig.send(tx, { op: Op.REQUEST });
    rig.clock.ms += 1;
    rig.loop.turn(0);
    rig.loop.turn(0);
    assert.deepEqual(rig.heard(rx), ["RESPONSE"]);
    assert.deepEqual(rig.events, ["kick-polled"]);
  });
});
