import assert from "node:assert/strict";
import { test } from "node:test";
import { drainEventfd } from "../linux/eventfd.js";
import { Timers } from "../linux/timers.js";
import { has, maskOf, PROTOCOL_F } from "../virtio/index.js";
import { availBytes, descBytes, usedBytes } from "../virtqueue/layout.js";
import {
  IOVA_BASE,
  QUEUE_SIZE,
  type Rig,
  USER_BASE,
  VERSION_1_AND_30,
  WITH_BIT_33,
  withRig,
} from "./session-rig.js";

/** The two words of which the draft says that they mean the same here: bit 33 acknowledged or not. */
const BOTH_WORDS = [VERSION_1_AND_30, WITH_BIT_33];
const BIT = 40;
const GPA_ADDRESSES = maskOf(PROTOCOL_F.GPA_ADDRESSES);

/** A front-end that acknowledges the feature, or all but the feature. */
function connect(rig: Rig, acknowledges: boolean, options: { channel?: boolean } = {}): void {
  const offered = rig.fe.getProtocolFeatures();
  assert.ok(has(offered, BIT));
  const wanted = offered & ~GPA_ADDRESSES;
  rig.connect({ protocolFeatures: acknowledges ? wanted : wanted & ~(1n << BigInt(BIT)), ...options });
}

const MISS_TIMEOUT_MS = 50;

function withExplicit(
  acknowledges: boolean,
  body: (rig: Rig) => void,
  options?: { channel?: boolean; timers?: Timers },
): void {
  const run = (rig: Rig): void => {
    connect(rig, acknowledges, options);
    body(rig);
  };
  withRig({ iotlb: "explicit", explicitBit: BIT, missTimeoutMs: MISS_TIMEOUT_MS }, run, options);
}

/** Maps the rings and the first buffers, without being asked. */
function premap(rig: Rig): void {
  for (const index of [0, 1]) {
    const { desc, avail, used } = rig.ram.addresses(index, "iova");
    for (const [start, length] of [
      [desc, descBytes(QUEUE_SIZE)],
      [avail, availBytes(QUEUE_SIZE, true)],
      [used, usedBytes(QUEUE_SIZE, true)],
    ] as const) {
      assert.equal(rig.fe.iotlbUpdate(start, BigInt(length), USER_BASE + (start - IOVA_BASE)), 0n);
    }
  }
  assert.equal(rig.fe.iotlbUpdate(IOVA_BASE + 0x100000n, 0x10000n, USER_BASE + 0x100000n), 0n);
}

test("the explicit feature alone turns translation on; bit 33 has no say", () => {
  for (const features of BOTH_WORDS) {
    withExplicit(true, (rig) => {
      assert.ok(has(rig.session.protocolFeatures, BIT));
      rig.start(features, "iova");
      rig.send(1, "explicit", "iova");
      assert.deepEqual(rig.received(1), ["explicit"]);
      assert.deepEqual(rig.modes(), ["on explicit-negotiated"]);
    });
  }
});

test("without the explicit feature translation is off; bit 33 has no say", () => {
  for (const features of BOTH_WORDS) {
    withExplicit(false, (rig) => {
      rig.start(features, "user-rings");
      rig.send(1, "plain");
      assert.deepEqual(rig.received(1), ["plain"]);
      assert.deepEqual(rig.modes(), ["off explicit-not-negotiated"]);
      assert.deepEqual(rig.misses, []);
      assert.notEqual(rig.map(IOVA_BASE), 0n, "an IOTLB message is answered with a failure");
      rig.send(1, "as before");
      assert.deepEqual(rig.received(1), ["plain", "as before"]);
    });
  }
});

test("a front-end that translates and does not know the feature gets no ring, and is told", () => {
  withExplicit(false, (rig) => {
    rig.start(WITH_BIT_33, "iova");
    assert.equal(rig.device.running.size, 0);
    assert.equal(rig.log("ring-held").length, 2);
    assert.match(
      rig.log("ring-held")[0].message,
      /^queue 0 waits: the descriptor table of queue 0 at 0x.* lies outside/,
    );
    assert.equal(drainEventfd(rig.errors[0]), 8);
    assert.ok(rig.session.isOpen);
    for (const index of [0, 1]) rig.fe.setVringAddr(index, rig.ram.addresses(index, "user-rings"));
    rig.send(1, "now");
    assert.deepEqual(rig.received(1), ["now"]);
  });
});

test("the feature without a way to ask, or to be answered, closes the connection with an explanation", () => {
  const [request, ack] = [maskOf(PROTOCOL_F.BACKEND_REQ), maskOf(PROTOCOL_F.REPLY_ACK)];
  for (const others of [0n, request, ack]) {
    withRig({ iotlb: "explicit" }, (rig) => {
      rig.fe.setProtocolFeatures(others | (1n << 62n));
      rig.settle();
      assert.ok(rig.fe.backendLeft);
      assert.match(rig.device.endReason ?? "", /needs BACKEND_REQ and REPLY_ACK/);
      assert.match(
        rig.log("message-refused")[0].message,
        /SET_PROTOCOL_FEATURES.*needs BACKEND_REQ and REPLY_ACK/,
      );
    });
  }
});

test("what was mapped stays mapped over SET_FEATURES and over a stop: a front-end that maps ahead is asked nothing", () => {
  withExplicit(true, (rig) => {
    rig.mapsOnMiss = false;
    rig.fe.addMemReg(rig.ram.region);
    premap(rig);
    rig.start(WITH_BIT_33, "iova", { memory: false });
    rig.send(1, "first", "iova");
    const base = rig.stop()[1];
    rig.start(VERSION_1_AND_30, "iova", { memory: false, base });
    rig.send(1, "second", "iova");
    assert.deepEqual(rig.received(1), ["first", "second"]);
    assert.deepEqual(rig.misses, []);
  });
});

test("RESET_DEVICE and status 0 empty the IOTLB, and translation stays on", () => {
  for (const reset of [(rig: Rig) => rig.fe.resetDevice(), (rig: Rig) => rig.fe.setStatus(0)]) {
    withExplicit(true, (rig) => {
      rig.mapsOnMiss = false;
      rig.fe.addMemReg(rig.ram.region);
      premap(rig);
      reset(rig);
      rig.start(VERSION_1_AND_30, "iova", { memory: false });
      rig.send(1, "unreachable", "iova");
      assert.deepEqual(rig.received(1), []);
      assert.equal(rig.session.translation.state, "on");
      assert.ok(rig.misses.length > 0);
      premap(rig);
      rig.settle();
      assert.deepEqual(rig.received(1), ["unreachable"]);
    });
  }
});

test("the feature cannot change while a ring is started", () => {
  withExplicit(true, (rig) => {
    rig.start(VERSION_1_AND_30, "iova");
    for (const index of [0, 1]) rig.fe.setVringEnable(index, false);
    rig.fe.needReply = true;
    const without = rig.session.protocolFeatures & ~(1n << BigInt(BIT));
    assert.throws(() => rig.fe.setProtocolFeatures(without), { code: "refused" });
    assert.equal(rig.session.translation.state, "on");
  });
});

test("a change of the feature empties the IOTLB and voids ring addresses", () => {
  withExplicit(true, (rig) => {
    rig.fe.addMemReg(rig.ram.region);
    premap(rig);
    rig.mapsOnMiss = false;
    const acknowledged = rig.session.protocolFeatures;
    rig.start(VERSION_1_AND_30, "iova", { memory: false });
    assert.deepEqual(rig.misses, []);
    rig.stop();
    rig.fe.setProtocolFeatures(acknowledged & ~(1n << BigInt(BIT)));
    rig.fe.setProtocolFeatures(acknowledged);
    for (const index of [0, 1]) {
      rig.fe.setVringKick(index, rig.kicks[index]);
      rig.fe.setVringEnable(index, true);
    }
    rig.settle();
    assert.equal(rig.device.running.size, 0, "SET_VRING_ADDR has to come again");
    rig.fe.setVringAddr(1, rig.ram.addresses(1, "iova"));
    rig.settle();
    assert.deepEqual([...rig.device.running.keys()], [1]);
    assert.ok(rig.misses.length > 0, "what was mapped before is not");
  });
});

test("without a channel a ring waits for its mappings and the log says so once", () => {
  withExplicit(
    true,
    (rig) => {
      rig.start(VERSION_1_AND_30, "iova");
      rig.send(1, "waits", "iova");
      rig.send(1, "waits too", "iova");
      assert.deepEqual(rig.received(1), []);
      assert.equal(rig.log("iotlb-refused").length, 1);
      rig.fe.openBackendChannel();
      rig.settle();
      assert.deepEqual(rig.received(1), ["waits", "waits too"]);
      assert.deepEqual(rig.log("ring-broken"), []);
    },
    { channel: false },
  );
});

test("a question that stays without a mapping is logged once and repeated; the ring goes on when the mapping comes", () => {
  // A clock of its own: on a busy machine the questions of the start would count as unanswered, too.
  let nowMs = 0;
  const timers = new Timers(() => nowMs);
  const body = (rig: Rig): void => {
    rig.start(VERSION_1_AND_30, "iova");
    rig.mapsOnMiss = false;
    rig.send(1, "late", "iova");
    let asked = rig.misses.length;
    for (let round = 0; round < 3; round++) {
      assert.equal(rig.log("mapping-missing").length, Math.min(round, 1));
      rig.settle();
      assert.equal(rig.misses.length, asked, "nothing is asked before its time");
      nowMs += MISS_TIMEOUT_MS * 2 ** round;
      rig.settle();
      assert.equal(rig.misses.length, ++asked);
    }
    assert.equal(rig.log("mapping-missing").length, 1);
    assert.deepEqual(rig.received(1), []);
    assert.equal(rig.map(rig.misses[asked - 1].iova), 0n);
    rig.settle();
    assert.deepEqual(rig.received(1), ["late"]);
    assert.deepEqual(rig.log("ring-broken"), []);
  };
  withExplicit(true, body, { timers });
});

test("no question leaves once the last ring has stopped, whatever was found missing before", () => {
  withExplicit(
    true,
    (rig) => {
      rig.start(VERSION_1_AND_30, "iova");
      rig.send(1, "asked for, had there been a channel", "iova");
      rig.stop();
      rig.fe.openBackendChannel();
      rig.settle();
      assert.deepEqual(rig.misses, []);
      rig.start(VERSION_1_AND_30, "iova", { memory: false });
      assert.ok(rig.misses.length > 0);
    },
    { channel: false },
  );
});
