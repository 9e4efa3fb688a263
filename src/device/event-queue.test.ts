import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { Outcome } from "../memory/address.js";
import { Op } from "../vsock/header.js";
import { openDescriptors } from "../vsock/switch-rig.js";
import { BackendRig, type ListBackendQueue, type Pieces } from "./backend-rig.js";

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

/** Event buffers as Linux posts them: 8 of 4 bytes, here filled so that a write shows. */
function offerEvents(event: ListBackendQueue, count = 8): void {
  for (let index = 0; index < count; index++) offerEvent(event, [[rig.place(4), 4]]);
}

function offerEvent(event: ListBackendQueue, pieces: Pieces): void {
  for (const [address, length] of pieces) bytesAt(address, length).fill(0xee);
  event.queue.chains.push({ readable: [], writable: pieces });
}

function bytesAt(address: number, length: number): Uint8Array {
  const start = address - rig.memory.scratch.address;
  return rig.memory.scratch.bytes.subarray(start, start + length);
}

/** What was written to the event queue, event by event. */
function events(event: ListBackendQueue): number[][] {
  const { chains, used, published } = event.queue;
  return used.slice(0, published).map(({ head, writtenBytes }) => {
    const at = head - (event.queue.nextAvail - used.length);
    const all = chains[at].writable.flatMap(([address, length]) => [...bytesAt(address, length)]);
    return all.slice(0, writtenBytes);
  });
}

const RESET = [0, 0, 0, 0];

/** A driver that goes on running without its back-end: its queues start where it was. */
function resume(): { rx: ListBackendQueue; tx: ListBackendQueue; event: ListBackendQueue } {
  const rx = rig.start(RX, 40);
  const tx = rig.start(TX, 7);
  const event = rig.start(EVENT, 0);
  return { rx, tx, event };
}

describe("a driver that goes on running in a new session", () => {
  it("is told that its connections are gone, once", () => {
    const { event } = resume();
    offerEvents(event);
    rig.kick(event);
    assert.deepEqual(events(event), [RESET]);
    assert.equal(event.notifications, 1);
    offerEvents(event, 1);
    rig.kick(event);
    rig.turn();
    assert.deepEqual(events(event), [RESET]);
    assert.deepEqual(rig.events, ["transport-reset"]);
  });

  it("is told as soon as it posts a buffer, if it has none there", () => {
    const { event } = resume();
    rig.turn();
    assert.equal(event.queue.kicksEnabled, true);
    assert.deepEqual(events(event), []);
    offerEvents(event, 1);
    rig.kick(event);
    assert.deepEqual(events(event), [RESET]);
  });

  it("is told once its buffers are mapped", () => {
    const { event } = resume();
    offerEvents(event);
    event.queue.outcome = Outcome.MISS;
    rig.turn();
    assert.deepEqual(events(event), []);
    event.queue.outcome = Outcome.OK;
    rig.backend.memoryAvailable();
    rig.turn();
    assert.deepEqual(events(event), [RESET]);
  });

  it("is told in a buffer that lies in pieces, and no byte more is written", () => {
    const { event } = resume();
    const at = rig.place(16, 4093);
    offerEvent(event, [
      [at, 3],
      [rig.place(8), 8],
    ]);
    rig.kick(event);
    assert.deepEqual(events(event), [RESET]);
    assert.equal(bytesAt(event.queue.chains[0].writable[1][0], 8)[1], 0xee);
  });

  it("has what it sends held until it has taken notice", () => {
    const { tx, event, rx } = resume();
    offerEvents(event);
    rig.turn();
    rig.offer(rx);
    rig.send(tx, { op: Op.REQUEST });
    rig.kick(tx);
    assert.equal(tx.queue.published, 0);
    // It returns the buffer without a kick, since the device has others.
    offerEvents(event, 1);
    rig.clock.ms += 1;
    rig.turn();
    assert.equal(tx.queue.published, 1);
    assert.equal(rx.queue.published, 1);
  });

  it("is not waited for without end if it never takes notice", () => {
    const { tx, event } = resume();
    offerEvents(event);
    rig.turn();
    rig.send(tx, { op: Op.REQUEST });
    rig.kick(tx);
    rig.clock.ms += 999;
    rig.turn();
    assert.equal(tx.queue.published, 0);
    rig.clock.ms += 1;
    rig.turn();
    assert.equal(tx.queue.published, 1);
  });

  it("loses what it opened before it could be told, on both sides", () => {
    const { tx, event } = resume();
    rig.connect(tx);
    assert.equal(rig.vsock.connectionCount, 1);
    offerEvents(event);
    rig.kick(event);
    assert.deepEqual(events(event), [RESET]);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("is served without an event queue as well", () => {
    const rx = rig.start(RX, 40);
    const tx = rig.start(TX, 7);
    rig.offer(rx);
    rig.connect(tx);
    assert.equal(tx.queue.published, 0, "held for a moment, in which an event queue may start");
    rig.clock.ms += 50;
    rig.turn();
    assert.equal(tx.queue.published, 1);
    assert.deepEqual(rig.events, []);
  });
});

describe("no transport reset is sent", () => {
  it("to a driver that starts at 0", () => {
    rig.start(RX);
    rig.start(TX);
    const event = rig.start(EVENT);
    offerEvents(event);
    rig.kick(event);
    assert.deepEqual(events(event), []);
  });

  it("to a driver whose VM was paused", () => {
    rig.start(RX, 0);
    const tx = rig.start(TX, 0);
    rig.start(EVENT, 0);
    rig.send(tx, { op: Op.REQUEST });
    rig.kick(tx);
    for (const index of [RX, TX, EVENT]) rig.backend.queueStopped(index);
    rig.start(RX, 0);
    rig.start(TX, 1);
    const event = rig.start(EVENT, 0);
    offerEvents(event);
    rig.kick(event);
    assert.deepEqual(events(event), []);
    assert.equal(rig.vsock.connectionCount, 1);
  });

  it("to a driver that has reset the device since it became due", () => {
    rig.start(RX, 40);
    rig.backend.queueStopped(RX);
    rig.backend.reset();
    rig.start(RX, 0);
    const event = rig.start(EVENT, 0);
    offerEvents(event);
    rig.kick(event);
    assert.deepEqual(events(event), []);
  });
});

describe("a restored driver in the same session", () => {
  it("is told, and what the one before had is gone", () => {
    rig.start(RX);
    const tx = rig.start(TX);
    rig.start(EVENT);
    rig.connect(tx);
    for (const index of [RX, TX, EVENT]) rig.backend.queueStopped(index);
    const { event } = resume();
    offerEvents(event);
    rig.kick(event);
    assert.deepEqual(events(event), [RESET]);
    assert.equal(rig.vsock.connectionCount, 0);
  });
});

describe("an event queue", () => {
  it("with a buffer shorter than an event is stopped, and the other queues go on", () => {
    for (const bytes of [0, 1, 3]) {
      const { rx, tx, event } = resume();
      offerEvent(event, [[rig.place(4), bytes]]);
      rig.kick(event);
      assert.equal(event.broken?.code, "content-malformed");
      rig.offer(rx);
      rig.send(tx, { op: Op.RW, srcPort: 9 });
      rig.kick(tx);
      assert.equal(tx.queue.published, 1);
      rig.backend.queueStopped(RX);
      rig.backend.queueStopped(TX);
      rig.backend.reset();
    }
  });

  it("that stops while the driver is waited for holds nothing up", () => {
    const { tx, event } = resume();
    offerEvents(event);
    rig.turn();
    rig.backend.queueStopped(EVENT);
    rig.send(tx, { op: Op.REQUEST });
    rig.kick(tx);
    assert.equal(tx.queue.published, 1);
  });

  it("may be flooded with kicks and buffers", () => {
    rig.start(RX);
    const tx = rig.start(TX);
    const event = rig.start(EVENT);
    offerEvents(event, 100);
    for (let round = 0; round < 100; round++) rig.kick(event);
    assert.equal(event.queue.published, 0);
    rig.connect(tx);
    assert.equal(rig.vsock.connectionCount, 1);
  });
});
