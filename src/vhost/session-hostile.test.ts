import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { createEventfd } from "../linux/eventfd.js";
import { socketPair } from "../linux/unix-socket.js";
import { HANDLERS, UNGATED } from "./handlers.js";
import { type Rig, USER_BASE, VERSION_1_AND_30, WITH_BIT_33, withRig } from "./session-rig.js";
import { encodeFrame, FLAG, messagesOf, type Payload, type PayloadKind } from "./wire/index.js";

/** A payload of each kind that a message carries, with nothing sensible in it. */
const SAMPLES: { readonly [K in PayloadKind]?: Payload } = {
  none: { kind: "none" },
  u64: { kind: "u64", value: 1n },
  vringState: { kind: "vringState", index: 0, num: 1 },
  vringAddr: { kind: "vringAddr", index: 0, flags: 0, desc: 0n, used: 0n, avail: 0n, log: 0n },
  vringFd: { kind: "vringFd", index: 0, noFd: true },
  memTable: { kind: "memTable", regions: [] },
  memRegion: {
    kind: "memRegion",
    region: { guestAddress: 0n, size: 4096n, userAddress: 0n, mmapOffset: 0n },
  },
  log: { kind: "log", size: 0n, offset: 0n },
  iotlb: { kind: "iotlb", iova: 0n, size: 4096n, userAddress: USER_BASE, perm: 3, type: 2 },
  config: { kind: "config", offset: 0, flags: 0, data: new Uint8Array(8) },
  inflight: { kind: "inflight", padded: true, mmapSize: 0n, mmapOffset: 0n, queueCount: 1, queueSize: 1 },
  sharedObject: { kind: "sharedObject", uuid: new Uint8Array(16) },
  deviceState: { kind: "deviceState", direction: 0, phase: 0 },
  opaque: { kind: "opaque", bytes: new Uint8Array(8) },
};

function sampleOf(kind: PayloadKind): Payload {
  const sample = SAMPLES[kind];
  assert.ok(sample, `no sample of ${kind}`);
  return sample;
}

/** Whether the session still works: it answers a question. */
function answers(rig: Rig): boolean {
  return rig.fe.getQueueNum() === 3;
}

test("a message that no handler knows is refused by name and the session goes on", () => {
  withRig({}, (rig) => {
    rig.connect();
    for (const record of messagesOf("frontend").filter(({ name }) => !(name in HANDLERS))) {
      const before = rig.log("message-refused").length;
      const fds = Array.from({ length: record.fds.min }, createEventfd);
      rig.fe.sendBytes(encodeFrame(record.id, FLAG.needReply, sampleOf(record.request)), fds);
      const answer = rig.fe.receive();
      assert.equal(answer.record.name, record.name);
      if (record.replies !== "always") assert.deepEqual(answer.payload, { kind: "u64", value: 1n });
      assert.equal(rig.log("message-refused").length, before + 1);
      assert.match(rig.log("message-refused")[before].message, new RegExp(`^${record.name}\\b`));
      for (const fd of fds) closeSync(fd);
    }
    assert.ok(answers(rig));
  });
});

test("a message whose feature was not negotiated is refused, questions and IOTLB_MSG aside", () => {
  withRig({}, (rig) => {
    // REPLY_ACK alone.
    rig.fe.setProtocolFeatures(1n << 3n);
    const gated = messagesOf("frontend").filter(
      ({ name, gates }) => name in HANDLERS && gates.length > 0 && !UNGATED.has(name),
    );
    for (const record of gated.filter(({ gates }) => !gates.some((gate) => "offered" in gate))) {
      const fds = Array.from({ length: record.fds.min }, createEventfd);
      rig.fe.sendBytes(encodeFrame(record.id, FLAG.needReply, sampleOf(record.request)), fds);
      // A message with a reply of its own that is no number gets one without a payload.
      const error = record.replies === "always" && record.reply !== "u64" ? { kind: "none" } : undefined;
      assert.deepEqual(rig.fe.receive().payload, error ?? { kind: "u64", value: 1n }, record.name);
      for (const fd of fds) closeSync(fd);
    }
  });
});

test("an unknown request is acknowledged with failure if that was asked for, and ignored otherwise", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.sendBytes(encodeFrame(77, FLAG.needReply, { kind: "none" }));
    rig.fe.waitFor(() => rig.log("message-refused").length === 1);
    rig.fe.sendBytes(encodeFrame(78, 0, { kind: "none" }));
    rig.fe.waitFor(() => rig.log("message-refused").length === 2);
    assert.match(rig.log("message-refused")[1].message, /78/);
    assert.ok(rig.session.isOpen);
  });
});

test("NEED_REPLY counts only where REPLY_ACK was negotiated", () => {
  withRig({}, (rig) => {
    rig.fe.sendBytes(encodeFrame(3, FLAG.needReply, { kind: "none" }));
    assert.ok(answers(rig), "the next answer is that of the next message");
    rig.connect({ channel: false });
    rig.fe.sendBytes(encodeFrame(3, FLAG.needReply, { kind: "none" }));
    assert.deepEqual(rig.fe.receive().payload, { kind: "u64", value: 0n });
    rig.fe.sendBytes(encodeFrame(3, 0, { kind: "none" }));
    assert.ok(answers(rig));
  });
});

test("a question that has an answer of its own is not acknowledged as well", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.sendBytes(encodeFrame(1, FLAG.needReply, { kind: "none" }));
    assert.equal(rig.fe.receive().record.name, "GET_FEATURES");
    assert.ok(answers(rig));
  });
});

test("a malformed payload is refused by name, and the stream goes on behind it", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.sendBytes(encodeFrame(8, FLAG.needReply, { kind: "opaque", bytes: new Uint8Array(5) }));
    assert.deepEqual(rig.fe.receive().payload, { kind: "u64", value: 1n });
    assert.match(rig.log("message-refused")[0].message, /SET_VRING_NUM: payload of 5 bytes/);
    assert.ok(answers(rig));
  });
});

test("configuration that does not exist is answered without payload, and writing it is refused", () => {
  withRig({}, (rig) => {
    rig.connect();
    assert.deepEqual(rig.fe.getConfig(0, 8), new Uint8Array([3, 0, 0, 0, 0, 0, 0, 0]));
    assert.equal(rig.fe.getConfig(4, 8), undefined);
    assert.equal(rig.fe.getConfig(0xffffffff, 8), undefined);
    rig.fe.needReply = true;
    assert.throws(() => rig.fe.setConfig(0, new Uint8Array(8)), { code: "refused" });
    assert.throws(() => rig.fe.setConfig(0, new Uint8Array(8), 1), { code: "refused" });
  });
});

test("a version other than 1 or a payload beyond the limit loses the stream: the session is closed", () => {
  for (const bytes of [
    [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
    [1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f],
  ]) {
    withRig({}, (rig) => {
      rig.connect();
      rig.start(VERSION_1_AND_30, "user-rings");
      rig.fe.sendBytes(new Uint8Array(bytes));
      rig.settle();
      assert.ok(rig.fe.backendLeft);
      assert.match(rig.device.endReason ?? "", /message boundaries are lost/);
      assert.deepEqual(rig.device.events.slice(-3), ["stop 0", "stop 1", "end"]);
    });
  }
});

test("a connection that ends within a message says so", () => {
  withRig({}, (rig) => {
    rig.fe.sendBytes(new Uint8Array([5, 0, 0, 0, 1, 0]), [rig.kicks[0], rig.kicks[1]]);
    rig.settle();
    rig.fe.close();
    rig.settle();
    assert.match(rig.device.endReason ?? "", /ended 6 bytes into a message/);
  });
});

test("protocol features that were not offered end the session with their names", () => {
  withRig({}, (rig) => {
    rig.fe.setProtocolFeatures((1n << 14n) | (1n << 3n));
    rig.settle();
    assert.ok(rig.fe.backendLeft);
    assert.match(rig.device.endReason ?? "", /INBAND_NOTIFICATIONS\] was acknowledged but not offered/);
  });
});

test("a front-end that asks without reading is left waiting, and gets every answer whole once it reads", () => {
  withRig({}, (rig) => {
    rig.connect();
    // Configuration that does not exist: each question leaves a record of when it was handled.
    const question = encodeFrame(24, 0, { kind: "config", offset: 99, flags: 0, data: new Uint8Array(8) });
    const count = 4000;
    const many = new Uint8Array(question.length * count);
    for (let at = 0; at < many.length; at += question.length) many.set(question, at);
    for (let at = 0; at < many.length; at += 32_000) rig.fe.sendBytes(many.subarray(at, at + 32_000));
    for (let turns = 0; turns < 100; turns++) rig.turn();
    assert.ok(rig.log("message-refused").length < count / 2, "answers are not piled up without bound");
    for (let received = 0; received < count; received++) {
      assert.deepEqual(rig.fe.receive().payload, { kind: "none" });
    }
    assert.ok(answers(rig));
  });
});

const anyMessage = fc.record({
  request: fc.oneof(fc.integer({ min: 0, max: 46 }), fc.nat(0xffffffff)),
  flags: fc.constantFrom(0, FLAG.needReply, FLAG.reply, FLAG.needReply | FLAG.reply),
  bytes: fc.oneof(
    fc.uint8Array({ maxLength: 48 }),
    fc.constantFrom(0, 4, 8, 12, 20, 32, 40, 48).map((length) => new Uint8Array(length)),
    fc
      .bigInt({ min: 0n, max: 2n ** 64n - 1n })
      .map((value) => new Uint8Array(new BigUint64Array([value]).buffer)),
    fc
      .tuple(fc.nat(4), fc.nat(9))
      .map(([index, num]) => new Uint8Array(new Uint32Array([index, num]).buffer)),
  ),
  fds: fc.array(fc.nat(3), { maxLength: 4 }),
});

test("any messages with any descriptors never throw, never end the loop, never leak a descriptor", () => {
  fc.assert(
    fc.property(
      fc.array(anyMessage, { maxLength: 40 }),
      fc.constantFrom("fresh", "plain", "iova"),
      fc.constantFrom("auto" as const, "on" as const, "off" as const, "explicit" as const),
      (messages, kind, iotlb) => {
        withRig({ iotlb, probationMs: 0 }, (rig) => {
          if (kind !== "fresh") rig.connect();
          if (kind === "plain") rig.start(VERSION_1_AND_30, "user-rings");
          if (kind === "iova") rig.start(WITH_BIT_33, "iova");
          const pair = socketPair();
          const sorts = [rig.kicks[0], rig.ram.fd, pair[0], pair[1]];
          for (const { request, flags, bytes, fds } of messages) {
            if (!rig.session.isOpen) break;
            const frame = encodeFrame(request, flags, { kind: "opaque", bytes });
            rig.fe.sendBytes(
              frame,
              fds.map((sort) => sorts[sort]),
            );
            rig.turn();
          }
          for (let turns = 0; turns < 4; turns++) rig.turn();
          for (const fd of pair) closeSync(fd);
        });
      },
    ),
    { numRuns: 300 },
  );
});

test("any bytes at all never throw, never end the loop, never leak a descriptor", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 64 }), { minLength: 1, maxLength: 10 }),
      (chunks) => {
        withRig({}, (rig) => {
          for (const chunk of chunks) {
            if (!rig.session.isOpen) break;
            rig.fe.sendBytes(chunk, [rig.kicks[0]]);
            rig.turn();
          }
        });
      },
    ),
    { numRuns: 200 },
  );
});

test("a wake-up handles a bounded number of messages and comes back for the rest", () => {
  withRig({}, (rig) => {
    const unknown = encodeFrame(77, 0, { kind: "none" });
    const many = new Uint8Array(unknown.length * 1000);
    for (let at = 0; at < many.length; at += unknown.length) many.set(unknown, at);
    rig.fe.sendBytes(many);
    rig.turn();
    const first = rig.log("message-refused").length;
    assert.ok(first > 0 && first < 1000);
    for (let turns = 0; turns < 20; turns++) rig.turn();
    assert.equal(rig.log("message-refused").length, 1000);
  });
});
